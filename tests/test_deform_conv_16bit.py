"""The CPU kernels of bfloat16 features, which machines with units for bfloat16 use."""

import pytest
import torch
from back_ends import compiled
from deform_conv_cases import NAMES, make, run, twin

from vsr.ops import deform_conv2d

pytestmark = compiled
LEVELS = ["portable+bf16", "avx2+bf16", "avx512+bf16"]
CASES = {
    "channels in groups of 8": {"c": 64, "co": 16, "g": 8},
    "channels in groups of 16": {"c": 32, "co": 24, "g": 2, "n": 1},
    "more positions than a block": {"c": 16, "co": 8, "g": 2, "h": 19, "w": 21},
    "stride and dilation": {"c": 16, "co": 8, "g": 1, "stride": 2, "dilation": 2, "padding": 2},
    "one position": {"c": 16, "co": 8, "g": 2, "h": 3, "w": 3, "padding": 0, "n": 1},
}


def rounded(case, offset_dtype=torch.float32, **more):
    tensors, geometry = make(**{**CASES[case], **more})
    dtypes = [torch.bfloat16, offset_dtype, torch.bfloat16, torch.bfloat16, offset_dtype]
    return [x.detach().to(dtype) for x, dtype in zip(tensors, dtypes, strict=True)], geometry


def gradient_of(output):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(output.shape, generator=generator).bfloat16()


def errors(got, expected):
    """Root of the mean squared error of each tensor, relative to the expected one's."""
    return {
        name: float((a.double() - b).norm() / b.norm())
        for name, a, b in zip(NAMES, got, expected, strict=True)
        if b is not None
    }


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("offset_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_mask", [True, False])
def test_results_are_exact_up_to_the_rounding_of_bfloat16(level, case, offset_dtype, has_mask, monkeypatch):
    tensors, geometry = rounded(case, offset_dtype)
    if not has_mask:
        tensors[4] = None
    exact = [None if x is None else x.double() for x in tensors]
    grad_output = gradient_of(twin(*exact[:4], mask=exact[4], **geometry))
    expected = run(twin, exact, geometry, grad_output)
    monkeypatch.setenv("VSR_CPU_ISA", level)
    got = run(deform_conv2d, tensors, geometry, grad_output)
    assert [None if x is None else x.dtype for x in got[1:]] == [None if x is None else x.dtype for x in tensors]
    # half a unit in the last place is at most 2^-9 = 0.2 % of a number; columns and results are rounded
    assert max(errors(got, expected).values()) < 0.006


@pytest.mark.parametrize("level", LEVELS)
def test_the_layout_changes_nothing_but_the_layout(level, monkeypatch):
    monkeypatch.setenv("VSR_CPU_ISA", level)
    tensors, geometry = rounded("more positions than a block", torch.bfloat16)
    contiguous = run(deform_conv2d, tensors, geometry)
    inside = [x if x.ndim == 1 else x.contiguous(memory_format=torch.channels_last) for x in tensors]
    both = torch.cat([inside[1], inside[4]], 1)
    offset, mask = both.requires_grad_().split([inside[1].shape[1], inside[4].shape[1]], 1)
    leaves = [x.detach().requires_grad_() for x in (inside[0], inside[2], inside[3])]
    output = deform_conv2d(leaves[0], offset, leaves[1], leaves[2], mask=mask, **geometry)
    grad_output = torch.sin(torch.arange(output.numel(), dtype=torch.float64)).view(output.shape)
    inputs = [leaves[0], offset, leaves[1], mask]
    got = [output, *torch.autograd.grad(output, inputs, grad_output.to(torch.bfloat16))]
    del contiguous[4]  # the bias's, which PyTorch sums
    assert all(torch.equal(a, b) for a, b in zip(got, contiguous, strict=True))
    assert all(got[i].is_contiguous(memory_format=torch.channels_last) for i in (0, 1, 2, 4))


def test_not_a_number_spreads_only_to_what_reads_it(monkeypatch):
    tensors, geometry = rounded("channels in groups of 8", n=2)
    tensors[0][0, 3, 5, 6] = float("nan")
    tensors[1][1, 0, 0, 0] = float("nan")
    tensors[1][1, 1, 0, 1] = float("inf")
    monkeypatch.setenv("VSR_CPU_ISA", "avx512+bf16")
    output, grad_input, *_ = run(deform_conv2d, tensors, geometry)
    assert torch.equal(output.isnan(), twin(*tensors[:4], mask=tensors[4], **geometry).isnan())
    assert torch.isfinite(grad_input[0]).all() and torch.isfinite(output[1, :, 0, 1:]).all()


@pytest.mark.parametrize("level", LEVELS)
def test_kernels_of_another_shape_are_those_of_float32(level, monkeypatch):
    for shape in ({"c": 12, "g": 2, "co": 8}, {"c": 16, "g": 2, "co": 6}, {"c": 16, "g": 2, "co": 16, "groups": 2}):
        tensors, geometry = make(**shape)
        tensors = [x.detach().bfloat16() for x in tensors]
        results = []
        for isa in (level, level.split("+")[0]):
            monkeypatch.setenv("VSR_CPU_ISA", isa)
            results.append(run(deform_conv2d, tensors, geometry))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("needed", range(5))
def test_one_gradient_alone_is_the_same(needed, monkeypatch):
    monkeypatch.setenv("VSR_CPU_ISA", "avx512+bf16")
    tensors, geometry = rounded("channels in groups of 16")
    everything = run(deform_conv2d, tensors, geometry)[1:]
    leaves = [x.clone().requires_grad_(i == needed) for i, x in enumerate(tensors)]
    output = deform_conv2d(*leaves[:4], mask=leaves[4], **geometry)
    grad_output = torch.sin(torch.arange(output.numel(), dtype=torch.float64)).view(output.shape)
    output.backward(grad_output.to(output.dtype))
    assert [x.grad is None for x in leaves] == [i != needed for i in range(5)]
    assert torch.equal(leaves[needed].grad, everything[needed])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_they_repeat_for_a_given_number_of_threads(count, monkeypatch):
    monkeypatch.setenv("VSR_CPU_ISA", "avx512+bf16")
    tensors, geometry = rounded("more positions than a block", n=1)
    alone = run(deform_conv2d, tensors, geometry)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        first, second = (run(deform_conv2d, tensors, geometry) for _ in range(2))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(first[0], alone[0]) and max(errors(first, [x.double() for x in alone]).values()) < 0.004


def test_the_operator_obeys_pytorchs_rules(monkeypatch):
    monkeypatch.setenv("VSR_CPU_ISA", "avx512+bf16")
    tensors, geometry = rounded("stride and dilation")
    leaves = [x.requires_grad_() for x in tensors]
    pairs = [[geometry[name]] * 2 for name in ("stride", "padding", "dilation")]
    torch.library.opcheck(torch.ops.vsr.deform_conv2d.default, (*leaves, *pairs), test_utils="test_schema")
    inside = [x.detach().contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in tensors]
    both = torch.cat([inside[1], inside[4]], 1)
    inside[1], inside[4] = both.split([inside[1].shape[1], inside[4].shape[1]], 1)
    leaves = [x.detach().requires_grad_() for x in inside]
    torch.library.opcheck(torch.ops.vsr.deform_conv2d.default, (*leaves, *pairs))
