"""The CUDA kernels without a GPU: compiled for the CPU, where one thread does all, against the plain-PyTorch twin."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from vsr.ops import backend, deform_conv_reference

SOURCES = Path(__file__).parents[1] / "csrc" / "dcn"
HARNESS = r"""
#include <cmath>
#include <cstdint>
#define __host__
#define __device__
#define __global__
struct Index { int64_t x; };
static const Index blockIdx{0}, threadIdx{0}, blockDim{1}, gridDim{1};
template <typename T, typename V> void atomicAdd(T* sum, V value) { *sum += value; }
using std::exp2; using std::floor; using std::log2;
#include "cuda_kernels.cuh"
using namespace vsr;
using T = float;

static Strided<const T> whole(const T* x, int64_t c, int64_t h, int64_t w) {
  return {x, c * h * w, h * w, w, 1};
}
static Strided<T> whole(T* x, int64_t c, int64_t h, int64_t w) { return {x, c * h * w, h * w, w, 1}; }

extern "C" void columns(const CudaShape* s, int64_t count, const T* input, const T* offset, const T* mask, T* columns) {
  int64_t pairs = s->offset_groups * s->taps();
  auto o = whole(offset, 2 * pairs, s->ho, s->wo), m = whole(mask, pairs, s->ho, s->wo);
  columns_kernel<T, T>(*s, 0, count, input, o, m, columns);
}

extern "C" void gradients(const CudaShape* s, int64_t count, const T* input, const T* offset, const T* mask,
                          const T* grad_columns, T* grad_input, unsigned long long* fixed, const double* scale,
                          T* grad_offset, T* grad_mask) {
  int64_t pairs = s->offset_groups * s->taps();
  auto o = whole(offset, 2 * pairs, s->ho, s->wo), m = whole(mask, pairs, s->ho, s->wo);
  auto go = whole(grad_offset, 2 * pairs, s->ho, s->wo), gm = whole(grad_mask, pairs, s->ho, s->wo);
  gradients_kernel<T, T>(*s, 0, count, input, o, m, grad_columns, true, AddAtomically<T>{grad_input}, go, gm);
  gradients_kernel<T, T>(*s, 0, count, input, o, m, grad_columns, true, AddInFixedPoint<T>{fixed, scale}, go, gm);
}

extern "C" void scale(const T* grad_output, const T* weight, const T* mask, double terms, double* scale) {
  scale_kernel<T, T>(grad_output, weight, mask, terms, scale);
}

extern "C" void from_fixed_point(const unsigned long long* sum, const double* scale, T* out, int64_t size) {
  from_fixed_point_kernel<T>(sum, scale, out, size);
}

extern "C" void finish(const T* rows, const T* bias, T* out, int64_t n, int64_t co, int64_t ho, int64_t wo) {
  finish_kernel<T, T>(rows, bias, whole(out, co, ho, wo), co, ho, wo, n * co * ho * wo);
}
"""
GEOMETRY = ("c", "h", "w", "ho", "wo", "kh", "kw", "stride_h", "stride_w", "padding_h", "padding_w", "dilation_h",
            "dilation_w", "offset_groups", "groups")  # fmt: skip


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("cuda")
    (folder / "harness.cpp").write_text(HARNESS)
    library = folder / "harness.so"
    subprocess.run(
        [compiler, "-O1", "-std=c++17", "-shared", "-fPIC", f"-I{SOURCES}", folder / "harness.cpp", "-o", library],
        check=True,
    )
    return ctypes.CDLL(str(library))


def pointers(*tensors):
    return [ctypes.c_void_p(x.data_ptr()) for x in tensors]


CASES = [
    {},
    {"offset_groups": 3, "groups": 2},
    {"offset_groups": 6, "groups": 3, "stride_h": 2, "dilation_w": 2, "padding_w": 2},
    {"kh": 1, "kw": 2, "padding_h": 0},
]


@pytest.mark.parametrize("std", [0.0, 1.5, 6.0])
@pytest.mark.parametrize("case", CASES)
def test_the_cuda_kernels_equal_the_twin(kernels, case, std):
    torch.manual_seed(0)
    g = {"c": 6, "h": 7, "w": 6, "kh": 3, "kw": 3, "stride_h": 1, "stride_w": 1, "padding_h": 1, "padding_w": 1,
         "dilation_h": 1, "dilation_w": 1, "offset_groups": 2, "groups": 1, **case}  # fmt: skip
    g["ho"] = (g["h"] + 2 * g["padding_h"] - g["dilation_h"] * (g["kh"] - 1) - 1) // g["stride_h"] + 1
    g["wo"] = (g["w"] + 2 * g["padding_w"] - g["dilation_w"] * (g["kw"] - 1) - 1) // g["stride_w"] + 1
    shape = (ctypes.c_int64 * len(GEOMETRY))(*(g[name] for name in GEOMETRY))
    n, co, taps, groups, positions = 2, 12, g["kh"] * g["kw"], g["groups"], 2 * g["ho"] * g["wo"]

    input = torch.randn(n, g["c"], g["h"], g["w"], requires_grad=True)
    offset = (torch.randn(n, 2 * g["offset_groups"] * taps, g["ho"], g["wo"]) * std).requires_grad_()
    mask = torch.rand(n, g["offset_groups"] * taps, g["ho"], g["wo"], requires_grad=True)
    weight = torch.randn(co, g["c"] // groups, g["kh"], g["kw"], requires_grad=True)
    bias = torch.randn(co)
    pairs = [(g[f"{name}_h"], g[f"{name}_w"]) for name in ("stride", "padding", "dilation")]
    expected = deform_conv_reference.deform_conv2d(input, offset, weight, bias, mask, *pairs)
    grad_output = torch.randn_like(expected)
    expected.backward(grad_output)

    last = input.detach().permute(0, 2, 3, 1).contiguous()
    columns = torch.full((positions, groups, taps * g["c"] // groups), float("nan"))
    kernels.columns(ctypes.byref(shape), ctypes.c_int64(positions), *pointers(last, offset, mask, columns))
    rows = weight.detach().flatten(2).transpose(1, 2).reshape(groups, co // groups, -1)
    output_rows = torch.einsum("pgk,gok->pgo", columns, rows).reshape(positions, co).contiguous()
    output = torch.empty_like(expected)
    kernels.finish(*pointers(output_rows, bias, output), *(ctypes.c_int64(v) for v in (n, co, g["ho"], g["wo"])))
    torch.testing.assert_close(output, expected.detach(), rtol=1e-4, atol=1e-4)

    grad_rows = grad_output.permute(0, 2, 3, 1).reshape(positions, groups, co // groups)
    grad_columns = torch.einsum("pgo,gok->pgk", grad_rows, rows).contiguous()
    scale = torch.zeros(1, dtype=torch.float64)
    largest = [x.detach().abs().amax().reshape(1) for x in (grad_output, weight, mask)]
    terms = co / groups * taps * g["ho"] * g["wo"]
    kernels.scale(*pointers(*largest), ctypes.c_double(terms), *pointers(scale))
    added, fixed = torch.zeros_like(last), torch.zeros(last.shape, dtype=torch.int64)
    grad_offset, grad_mask = torch.empty_like(offset), torch.empty_like(mask)
    kernels.gradients(
        ctypes.byref(shape), ctypes.c_int64(positions),
        *pointers(last, offset, mask, grad_columns, added, fixed, scale, grad_offset, grad_mask),
    )  # fmt: skip
    deterministic = torch.empty_like(last)
    kernels.from_fixed_point(*pointers(fixed, scale, deterministic), ctypes.c_int64(last.numel()))
    for got, wanted in (
        (grad_offset, offset.grad),
        (grad_mask, mask.grad),
        (added.permute(0, 3, 1, 2), input.grad),
        (deterministic.permute(0, 3, 1, 2), input.grad),
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_built_cuda_library_registers_its_kernels():
    problem = backend.library("cuda").problem
    if problem is not None:
        pytest.skip(problem)
    for name in ("vsr::deform_conv2d", "vsr::deform_conv2d_backward"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")
