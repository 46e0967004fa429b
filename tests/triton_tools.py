"""What the tests of Triton kernels share: marks for the interpreter's process, and a compiler for an absent GPU.

The interpreter has to be chosen before Triton is imported: tests of numbers run in the process that
``test_ops_triton.py`` starts.
"""

import os
import re
import subprocess

import pytest

triton = pytest.importorskip("triton", reason="the package triton is not installed")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs in the process that test_the_interpreter_agrees starts")
not_interpreted = pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's process")


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
