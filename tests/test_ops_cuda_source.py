"""The CUDA sources without a GPU: compiled for the CPU, where loops are the threads, they pass the operator's tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from load_script import load_script

from vsr.ops import backend

ROOT = Path(__file__).parents[1]
PYTORCH = Path(torch.__file__).parent
TESTS = ("test_deform_conv.py", "test_deform_conv_numbers.py", "test_deform_conv_op.py", "test_deform_conv_pack.py")
CLAIMS_OF_THE_CPU_KERNELS = (
    "test_deform_conv.py::test_an_unknown_instruction_set_is_refused",
    # The CUDA sources multiply by PyTorch's matrix product, on a CPU the BLAS, which promises less.
    "test_deform_conv_numbers.py::test_the_cpu_kernels_repeat_for_a_given_number_of_threads",
)
CUDA_RUNTIME = """#pragma once
#include <cmath>
#include <cstdint>
#define __host__
#define __device__
#define __global__
using std::exp2, std::floor, std::log2;
using cudaStream_t = void*;
enum cudaError_t { cudaSuccess };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return ""; }
inline struct Index { int64_t x; } blockIdx, threadIdx, blockDim, gridDim;
template <typename T, typename V> void atomicAdd(T* sum, V value) { *sum += value; }
// Last thread first: none may wait for another.
template <typename Body> void all_threads(int blocks, Body body) {
  gridDim.x = blocks, blockDim.x = 3;
  for (blockIdx.x = blocks - 1; blockIdx.x >= 0; blockIdx.x--)
    for (threadIdx.x = 2; threadIdx.x >= 0; threadIdx.x--) body();
}
"""
REPLACED = {
    "kernel<<<blocks, kThreads, 0, stream>>>(arguments...)": "all_threads(blocks, [&] { kernel(arguments...); })",
    "std::min<int64_t>((threads + kThreads - 1) / kThreads, 1 << 20)": "2",  # every thread loops
    "kColumnBytes = int64_t{256} << 20": "kColumnBytes = 20000",  # several chunks
    "TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));": "",
    "st::accelerator::DeviceGuard guard(input.get_device_index());": "",
    "STABLE_TORCH_LIBRARY_IMPL(vsr, CUDA, m)": "STABLE_TORCH_LIBRARY_IMPL(vsr, CPU, m)",
}


@pytest.fixture
def package(tmp_path):
    """A copy of the package whose CPU kernels are the CUDA sources."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    shutil.copytree(ROOT / "vsr", tmp_path / "vsr", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    (tmp_path / "csrc/dcn/cuda_runtime.h").write_text(CUDA_RUNTIME)
    source = (tmp_path / "csrc/dcn/cuda.cu").read_text()
    for old, new in REPLACED.items():
        assert old in source, old
        source = source.replace(old, new)
    (tmp_path / "csrc/dcn/cuda.cpp").write_text(source)

    setup = load_script("setup", ROOT)
    library = tmp_path / "vsr" / "_C.so"
    subprocess.run(
        [compiler, "-O1", "-std=c++17", "-shared", "-fPIC", f"-DTORCH_TARGET_VERSION={setup.STABLE_ABI}",
         f"-I{tmp_path / 'csrc/dcn'}", f"-I{PYTORCH / 'include'}", f"-I{PYTORCH / 'include/torch/csrc/api/include'}",
         tmp_path / "csrc/dcn/cuda.cpp", "-o", library, f"-L{PYTORCH / 'lib'}", "-ltorch", "-ltorch_cpu"],
        check=True,
    )  # fmt: skip
    setup.append_record(library, {"torch": torch.__version__})
    return tmp_path


def test_the_cuda_sources_pass_the_tests_of_the_operator(package):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml"]
    command += [ROOT / "tests" / name for name in TESTS]
    command += ["-k", "not twin and not compiles and not wrong_arguments"]  # which reach no kernel
    for name in CLAIMS_OF_THE_CPU_KERNELS:
        command += ["--deselect", f"tests/{name}"]
    environment = {**os.environ, "PYTHONPATH": str(package), "VSR_OPS": "compiled"}
    done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_built_cuda_library_registers_its_kernels():
    """In a process of its own, where no other test relies on Triton's."""
    problem = backend.built("cuda").problem
    if problem is not None:
        pytest.skip(problem)
    code = "from vsr.ops import backend; print(backend.choose('deform_conv2d', 'cuda'))"
    environment = {**os.environ, "VSR_OPS": "compiled"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "Choice(backend='compiled', reason='VSR_OPS=compiled')\n"
    assert "Overriding" not in done.stderr
