"""Arguments of deformable convolutions, and what to compare them with."""

import pytest
import torch

from vsr.ops.deform_conv import reference as deform_conv_reference

try:
    from torchvision.ops import deform_conv2d as torchvision_op
except (ImportError, RuntimeError):  # RuntimeError: it was built for another torch
    torchvision_op = None
needs_torchvision = pytest.mark.skipif(torchvision_op is None, reason="torchvision does not load")
NAMES = ("output", "input", "offset", "weight", "bias", "mask")


def make(
    n=2,
    c=16,
    h=9,
    w=11,
    co=16,
    g=2,
    kernel=3,
    std=1.5,
    groups=1,
    stride=1,
    padding=1,
    dilation=1,
    dtype=torch.float32,
    device="cpu",
):
    """Random arguments: input, offset, weight, bias, mask; and stride, padding, dilation as keywords."""
    generator = torch.Generator().manual_seed(n * 1000 + c * 10 + h)
    ho = (h + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    wo = (w + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1

    def normal(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    tensors = [
        normal(n, c, h, w),
        normal(n, 2 * g * kernel**2, ho, wo) * std,
        normal(co, c // groups, kernel, kernel) / (c * kernel**2) ** 0.5,
        normal(co),
        torch.rand(n, g * kernel**2, ho, wo, generator=generator, dtype=torch.float64),
    ]
    tensors = [x.to(device, dtype).requires_grad_() for x in tensors]
    return tensors, {"stride": stride, "padding": padding, "dilation": dilation}


def run(op, tensors, geometry, grad_output=None):
    """Output and all gradients of an op with the public signature."""
    leaves = [
        None if x is None else x.detach().clone(memory_format=torch.preserve_format).requires_grad_() for x in tensors
    ]
    input, offset, weight, bias, mask = leaves
    output = op(input, offset, weight, bias, mask=mask, **geometry)
    if grad_output is None:
        grad_output = torch.sin(torch.arange(output.numel(), dtype=torch.float64)).view(output.shape)
    output.backward(grad_output.to(output.device, output.dtype))
    return [output.detach(), *(None if x is None else x.grad for x in leaves)]


def twin(input, offset, weight, bias=None, stride=1, padding=0, dilation=1, mask=None):
    pairs = ((value, value) if isinstance(value, int) else value for value in (stride, padding, dilation))
    return deform_conv_reference.deform_conv2d(input, offset, weight, bias, mask, *pairs)


oracle = torchvision_op or twin  # scripts/check_wheel.sh may find no torchvision for its torch


def assert_close(got, expected, rtol=1e-4, names=NAMES):
    """Equal up to rtol of the largest value: sums of hundreds of terms cancel, so single values may be small."""
    for name, a, b in zip(names, got, expected, strict=True):
        if a is None and b is None:
            continue
        scale = b.abs().max().item() if b.numel() else 0.0
        torch.testing.assert_close(
            a, b, rtol=rtol, atol=rtol * scale * 0.1, msg=lambda text, name=name: f"{name}: {text}"
        )


CASES = {
    "integer coordinates and the -1 border": {"std": 0.0},
    "std 1.5": {"std": 1.5},
    "std 6": {"std": 6.0},
    "std 20": {"std": 20.0},
    "4 channels per group": {"c": 16, "g": 4},
    "8 channels per group": {"c": 64, "g": 8, "co": 64},
    "16 channels per group": {"c": 64, "g": 4},
    "3 channels per group": {"c": 6, "g": 2, "co": 5},
    "1 channel per group": {"c": 5, "g": 5, "co": 3},
    "13 channels per group": {"c": 26, "g": 2, "co": 17},
    "24 channels per group": {"c": 48, "g": 2, "co": 40},
    "128 channels": {"c": 128, "g": 8, "co": 128, "h": 6, "w": 5},
    "stride 2": {"stride": 2},
    "dilation 2": {"dilation": 2, "padding": 2},
    "no padding, kernel 1": {"kernel": 1, "padding": 0},
    "kernel 5": {"kernel": 5, "padding": 2, "c": 8},
    "groups 2": {"groups": 2},
    "groups 4, offset groups 2": {"groups": 4, "g": 2, "co": 20},
    "groups 2, offset groups 4, odd": {"groups": 2, "g": 4, "c": 12, "co": 6},
    "depthwise": {"groups": 16, "g": 1},
    "one pixel": {"h": 1, "w": 1},
    "a row": {"h": 1, "w": 70},
    "a column": {"h": 70, "w": 1},
    "batch 1": {"n": 1},
    "batch 33": {"n": 33, "h": 5, "w": 4, "c": 8},
    "more than one block of positions": {"n": 1, "h": 13, "w": 21},
}
