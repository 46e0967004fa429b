"""Warping in plain PyTorch: the specification of the compiled and Triton kernels, and the fallback.

It supports any device and floating-point dtype and is differentiable by autograd.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.ops.tensors import accumulator, layout_of


def flow_warp(x: Tensor, flow: Tensor, border: bool) -> Tensor:
    """Computes ``vsr.ops.flow_warp`` without checking its arguments.

    A row of a table holds a pixel's channels, and each output is a weighted sum of four rows. As the weights are
    computed from pixel coordinates, a flow of whole pixels copies values unchanged.
    """
    n, c, h, w = x.shape
    dtype = accumulator(x.dtype)
    rows, weights = corners(flow.to(dtype), border)
    image = torch.arange(n, device=x.device).view(-1, 1, 1, 1) * (h * w)
    table = x.to(dtype).permute(0, 2, 3, 1).reshape(n * h * w, c)
    sums = F.embedding_bag((rows + image).view(-1, 4), table, per_sample_weights=weights.view(-1, 4), mode="sum")
    return sums.view(n, h, w, c).permute(0, 3, 1, 2).to(x.dtype).contiguous(memory_format=layout_of(x))


def corners(flow: Tensor, border: bool) -> tuple[Tensor, Tensor]:
    """Returns the four pixels around each position plus its flow, as indices into h·w pixels, and their weights.

    A pixel outside the frame has the weight 0. A flow that is not a number gives such weights.

    Args:
        flow: (n, 2, h, w), (x, y) in pixels.
        border: moves positions outside the frame to its border, where the flow has no gradient.

    Returns:
        Both (n, h, w, 4).
    """
    h, w = flow.shape[-2:]
    x = torch.arange(w, dtype=flow.dtype, device=flow.device) + flow[:, 0]
    y = torch.arange(h, dtype=flow.dtype, device=flow.device).view(-1, 1) + flow[:, 1]
    if border:
        x = torch.where((x > 0) & (x < w - 1), x, x.detach().clamp(0, w - 1))
        y = torch.where((y > 0) & (y < h - 1), y, y.detach().clamp(0, h - 1))
    x, y = x.clamp(-1, w), y.clamp(-1, h)
    left, top = x.detach().nan_to_num().floor(), y.detach().nan_to_num().floor()
    dx, dy = x - left, y - top
    rows, weights = [], []
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = top + down, left + right
        is_pixel = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        rows.append((row.clamp(0, h - 1) * w + column.clamp(0, w - 1)).long())
        weights.append((dy if down else 1 - dy) * (dx if right else 1 - dx) * is_pixel)
    return torch.stack(rows, -1), torch.stack(weights, -1)
