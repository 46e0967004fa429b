"""Deformable convolution in plain PyTorch: the specification of the compiled and Triton kernels, and the fallback.

It samples the input at every tap of every position (the columns) and multiplies the columns by the weight. It supports
any device and floating-point dtype and is differentiable by autograd. It stores several copies of the columns, each
kh · kw times the size of the input.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.ops.deform_conv.checks import Pair
from vsr.ops.tensors import accumulator, layout_of


def deform_conv2d(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None, *geometry: Pair
) -> Tensor:
    """Computes ``vsr.ops.deform_conv2d`` without checking its arguments.

    Half-precision features are sampled and accumulated in float32 and rounded once, as in the kernels.
    """
    dtype = accumulator(input.dtype)
    n, c, _, _ = input.shape
    kernel = weight.shape[2], weight.shape[3]
    groups = c // weight.shape[1]
    y, x = sampling_points(offset.to(dtype), kernel, *geometry)  # each (n, g, taps, ho, wo)
    g, taps, ho, wo = y.shape[1:]
    image = input.to(dtype).reshape(n * g, c // g, *input.shape[2:])
    samples = bilinear(image, *(v.reshape(n * g, taps * ho * wo) for v in (y, x)))
    samples = samples.view(n, g, c // g, taps, ho * wo)
    if mask is not None:
        samples = samples * mask.to(dtype).reshape(n, g, 1, taps, ho * wo)
    columns = samples.reshape(n, groups, c // groups * taps, ho * wo)
    rows = weight.to(dtype).reshape(groups, weight.shape[0] // groups, c // groups * taps)
    output = torch.matmul(rows, columns).reshape(n, weight.shape[0], ho, wo)
    if bias is not None:
        output = output + bias.to(dtype).view(1, -1, 1, 1)
    return output.to(input.dtype).contiguous(memory_format=layout_of(input))


def sampling_points(offset: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> tuple[Tensor, Tensor]:
    """Returns the sampling coordinates y and x, each (n, g, kh·kw, ho, wo), in pixels of the input.

    The arguments are those of ``deform_conv2d``; ``kernel`` is (kh, kw).
    """
    n, channels, ho, wo = offset.shape
    kh, kw = kernel
    offset = offset.reshape(n, channels // (2 * kh * kw), kh * kw, 2, ho, wo)
    along = {"device": offset.device, "dtype": offset.dtype}
    tap = torch.arange(kh * kw, device=offset.device)
    tap_y = (tap // kw * dilation[0] - padding[0]).to(offset.dtype).view(-1, 1, 1)
    tap_x = (tap % kw * dilation[1] - padding[1]).to(offset.dtype).view(-1, 1, 1)
    y = torch.arange(ho, **along).view(1, -1, 1) * stride[0] + tap_y + offset[:, :, :, 0]
    x = torch.arange(wo, **along).view(1, 1, -1) * stride[1] + tap_x + offset[:, :, :, 1]
    return y, x


def bilinear(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Returns ``image`` (n, c, h, w), sampled bilinearly at y and x, both (n, p) in pixels: (n, c, p); outside it is 0.

    At a coordinate of exactly -1 the value is 0 and the derivative is the value of the first row or column, as in
    torchvision. A NaN coordinate gives NaN.
    """
    n, c, h, w = image.shape
    inside = (y >= -1) & (y < h) & (x >= -1) & (x < w)
    is_number = ~(torch.isnan(y) | torch.isnan(x))
    y = torch.where(inside, y, torch.where(is_number, 0.0, y))
    x = torch.where(inside, x, torch.where(is_number, 0.0, x))
    top, left = torch.nan_to_num(y).floor(), torch.nan_to_num(x).floor()
    dy, dx = y - top, x - left
    padded = F.pad(image.reshape(n, c, h * w), (0, 1))  # the appended pixel is 0; corners outside the frame read it
    total = torch.zeros((), dtype=image.dtype, device=image.device)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = (top + down).long(), (left + right).long()
        is_pixel = inside & (row >= 0) & (row < h) & (column >= 0) & (column < w)
        index = torch.where(is_pixel, row * w + column, h * w)
        value = padded.gather(2, index.unsqueeze(1).expand(n, c, index.shape[1]))
        weight = (dy if down else 1 - dy) * (dx if right else 1 - dx)
        total = total + value * weight.unsqueeze(1)
    return total
