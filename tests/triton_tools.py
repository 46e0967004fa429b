"""What the tests of Triton kernels share: a process with the interpreter, and a compiler for a GPU that is not there.

The interpreter has to be chosen before Triton is imported, so the tests of numbers run in a process of their own.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="the package triton is not installed")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs in the process that test_the_interpreter_agrees starts")
not_interpreted = pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's process")


def assert_the_interpreter_passes(file, *tests):
    """Runs the tests of a file whose names contain one of ``tests``, in the interpreter; none may be skipped."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    options = ["-rs", "-p", "no:cacheprovider", "-k", " or ".join(tests), "--durations=3"]
    command = [sys.executable, "-m", "pytest", file, *options]
    done = subprocess.run(
        command, env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "SKIPPED" not in done.stdout


def spilled_bytes(kernel, pointers, constants):
    """Bytes of registers that the assembler had to move to memory, compiling for sm_90; and shared memory in bytes."""
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas
    from triton.compiler import ASTSource

    launch = ("num_warps", "num_stages", "enable_fp_fusion")
    options = {name: constants[name] for name in launch if name in constants}
    constants = {name: value for name, value in constants.items() if name not in options}
    signature = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if name in pointers}
    source = ASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    command = [get_ptxas(90).path, "-v", "--gpu-name", "sm_90a", "-", "-o", "/dev/null"]
    done = subprocess.run(command, input=compiled.asm["ptx"], capture_output=True, text=True, check=True)
    return int(re.search(r"(\d+) bytes spill stores", done.stderr)[1]), compiled.metadata.shared
