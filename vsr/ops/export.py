"""The operators for other runtimes: as ONNX nodes, or decomposed into PyTorch's own operators."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vsr.ops.deform_conv import reference
from vsr.ops.flow_warp.reference import corners
from vsr.ops.local_window.shifts import allowed_candidates, masked_softmax, scores_by_slices, sum_by_slices
from vsr.ops.tensors import accumulator

DEFORM_CONV_OPSET = 19  # the first with DeformConv


def decompositions(with_deform_conv: bool) -> dict[Any, Callable[..., Any]]:
    """Returns a decomposition table for ``ExportedProgram.run_decompositions``.

    Args:
        with_deform_conv: whether the deformable convolution is decomposed too, into gathers.
    """
    table: dict[Any, Callable[..., Any]] = {
        torch.ops.vsr.local_window_read.default: _local_window_read,
        torch.ops.vsr.flow_warp.default: _flow_warp,
    }
    if with_deform_conv:
        table[torch.ops.vsr.deform_conv2d.default] = _deform_conv2d
    return table


def onnx_translations() -> dict[Any, Callable[..., Any]]:
    """Returns the translations of operators that ONNX has: ``DeformConv``. Needs the package ``onnxscript``."""
    from onnxscript import opset19  # only here: an optional package

    def deform_conv2d(
        input: Any,
        offset: Any,
        weight: Any,
        bias: Any,
        mask: Any,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
    ) -> Any:
        kernel = list(weight.shape[2:])
        settings = {"kernel_shape": kernel, "strides": stride, "pads": [*padding, *padding], "dilations": dilation}
        settings |= {"group": input.shape[1] // weight.shape[1]}
        settings |= {"offset_group": offset.shape[1] // (2 * kernel[0] * kernel[1])}
        return opset19.DeformConv(input, weight, offset, bias, mask, **settings)

    return {torch.ops.vsr.deform_conv2d.default: deform_conv2d}


def _deform_conv2d(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None, *geometry: list[int]
) -> Tensor:
    pairs = [(numbers[0], numbers[1]) for numbers in geometry]
    return reference.deform_conv2d(input, offset, weight, bias, mask, *pairs)


def _flow_warp(x: Tensor, flow: Tensor, border: bool) -> Tensor:
    n, c, h, w = x.shape
    rows, weights = corners(flow.to(accumulator(x.dtype)), border)  # each (n, h, w, 4)
    features, total = x.to(weights.dtype).flatten(2), torch.zeros((), dtype=weights.dtype, device=x.device)
    for index, weight in zip(rows.flatten(1, 2).unbind(2), weights.flatten(1, 2).unbind(2), strict=True):
        total = total + features.gather(2, index.unsqueeze(1).expand(n, c, h * w)) * weight.unsqueeze(1)
    return total.view(n, c, h, w).to(x.dtype)


def _local_window_read(
    query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None, window: int
) -> tuple[Tensor, Tensor]:
    allowed = allowed_candidates(keys, window, valid)
    scores = scores_by_slices(query, keys, window)
    read = sum_by_slices(masked_softmax(scores, allowed), keys if values is None else values, window)
    return read, torch.logsumexp(scores.masked_fill(~allowed, float("-inf")), 1)
