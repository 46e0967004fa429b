"""The deformable convolution against torchvision's, its plain-PyTorch twin, and finite differences."""

import itertools

import pytest
import torch
from back_ends import DEVICES, compiled
from deform_conv_cases import CASES, assert_close, make, needs_torchvision, oracle, run, twin
from torch.nn import functional as F

from vsr.ops import deform_conv2d


@compiled
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_equal_torchvision(case, device):
    tensors, geometry = make(**CASES[case], device=device)
    assert_close(run(deform_conv2d, tensors, geometry), run(oracle, tensors, geometry))


@needs_torchvision
@pytest.mark.parametrize("case", CASES)
def test_the_twin_equals_torchvision(case):
    tensors, geometry = make(**CASES[case])
    assert_close(run(twin, tensors, geometry), run(oracle, tensors, geometry))


@compiled
@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_instruction_set_gives_the_same(isa, dtype, monkeypatch):
    monkeypatch.setenv("VSR_CPU_ISA", isa)  # one that the machine lacks falls back to the next narrower
    for case in ("std 1.5", "8 channels per group", "13 channels per group", "groups 4, offset groups 2"):
        tensors, geometry = make(**CASES[case], dtype=dtype)
        rtol = 1e-4 if dtype == torch.float32 else 1e-10
        assert_close(run(deform_conv2d, tensors, geometry), run(twin, tensors, geometry), rtol)


@compiled
def test_an_unknown_instruction_set_is_refused(monkeypatch):
    tensors, geometry = make()
    monkeypatch.setenv("VSR_CPU_ISA", "AVX512")
    with pytest.raises(RuntimeError, match="VSR_CPU_ISA=AVX512: expected one of portable, avx2, avx512, with"):
        run(deform_conv2d, tensors, geometry)
    monkeypatch.setenv("VSR_CPU_ISA", "")
    run(deform_conv2d, tensors, geometry)


@pytest.mark.parametrize("op", [pytest.param(deform_conv2d, marks=compiled), twin])
@pytest.mark.parametrize("case", [{}, {"groups": 2}, {"stride": 2}, {"dilation": 2, "padding": 2}])
def test_gradcheck_in_float64(op, case):
    tensors, geometry = make(n=2, c=4, h=5, w=4, co=4, g=2, std=0.7, dtype=torch.float64, **case)
    assert torch.autograd.gradcheck(lambda *t: op(*t[:4], mask=t[4], **geometry), tensors, fast_mode=True)
    assert torch.autograd.gradcheck(lambda *t: op(*t, **geometry), tensors[:3], fast_mode=True)


@pytest.mark.parametrize("op", [deform_conv2d, twin])
def test_zero_offset_is_a_convolution(op):
    for stride, padding, dilation, groups in itertools.product((1, 2), (0, 1), (1, 2), (1, 2)):
        tensors, geometry = make(std=0.0, stride=stride, padding=padding, dilation=dilation, groups=groups)
        input, offset, weight, bias, _ = tensors
        expected = F.conv2d(input, weight, bias, stride, padding, dilation, groups)
        torch.testing.assert_close(op(input, offset, weight, bias, **geometry), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", [deform_conv2d, twin])
def test_mask_and_bias_are_optional(op):
    tensors, geometry = make()
    for without in ([3], [4], [3, 4]):
        some = [None if i in without else x for i, x in enumerate(tensors)]
        assert_close(run(op, some, geometry), run(oracle, some, geometry))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["slices", "channels_last", "channels_last slices", "transposed", "every second"])
def test_inputs_need_not_be_contiguous(layout, device):
    (input, offset, weight, bias, mask), geometry = make(c=64, co=64, g=8, h=7, w=6, device=device)
    expected = run(oracle, (input, offset, weight, bias, mask), geometry)
    raw = torch.cat([offset, mask], 1).detach()  # the 216 channels that conv_offset gives
    if layout == "slices":
        input, offset, mask = torch.cat([input, input], 1)[:, 64:], raw[:, :144], raw[:, 144:]
    elif layout.startswith("channels_last"):
        raw = raw.contiguous(memory_format=torch.channels_last)
        offset, mask = (raw[:, :144], raw[:, 144:]) if "slices" in layout else (offset, mask)
        input = input.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
    elif layout == "transposed":
        input, offset, mask = (x.transpose(2, 3).contiguous().transpose(2, 3) for x in (input, offset, mask))
    else:
        input, offset, mask = (torch.stack([x, x * 0], -1)[..., 0] for x in (input, offset, mask))
        weight = torch.stack([weight, weight], 1)[:, 0]
    leaves = [x.detach().requires_grad_() for x in (input, offset, weight, bias, mask)]
    output = deform_conv2d(*leaves[:4], mask=leaves[4], **geometry)
    grad_output = torch.sin(torch.arange(output.numel(), dtype=torch.float64)).view(output.shape).to(output)
    output.backward(grad_output)
    assert_close([output.detach(), *(x.grad for x in leaves)], expected)


def test_one_offset_may_serve_all_positions():
    (input, offset, weight, bias, mask), geometry = make()
    expanded = [x.detach()[:, :, :1, :1].expand_as(x) for x in (offset, mask)]
    outputs = [
        deform_conv2d(input, x, weight, bias, mask=m, **geometry)
        for x, m in (expanded, [x.contiguous() for x in expanded])
    ]
    assert torch.equal(*outputs)


def test_the_output_follows_the_inputs_layout():
    tensors, geometry = make(c=16, co=8)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        input = tensors[0].detach().contiguous(memory_format=memory_format).requires_grad_()
        for op in (twin, deform_conv2d):
            output = op(input, *tensors[1:4], mask=tensors[4], **geometry)
            assert output.is_contiguous(memory_format=memory_format)
        (gradient,) = torch.autograd.grad(output.sum(), input)
        assert gradient.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("op", [deform_conv2d, twin])
@pytest.mark.parametrize("device", DEVICES)
def test_an_empty_batch_gives_empty_results(op, device):
    tensors, geometry = make(n=0, device=device)
    output, *gradients = run(op, tensors, geometry)
    assert output.shape == (0, 16, 9, 11)
    assert [x.shape for x in gradients] == [x.shape for x in tensors]
    assert not gradients[2].any() and not gradients[3].any()
