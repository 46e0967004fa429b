"""The numbers of the Triton kernels, from Triton's interpreter: one process for all operators."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the package triton is not installed")
HERE = Path(__file__).parent
FILES = [HERE / f"test_ops_triton_{operator}.py" for operator in ("deform_conv", "flow_warp", "local_window")]


def test_the_interpreter_agrees():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    options = ["-rs", "-p", "no:cacheprovider", "-k", "not sm_90", "--durations=3"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *FILES, *options],
        env=environment, cwd=HERE.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "SKIPPED" not in done.stdout
