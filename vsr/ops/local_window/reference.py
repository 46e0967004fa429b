"""The local window read in plain PyTorch: the specification of the compiled and Triton kernels, and the fallback.

A loop over the shifts, for any device and floating-point dtype. It stores a few weight maps (b, t·R², h, w), but never
R² copies of a frame, and is differentiable any number of times.
"""

from torch import Tensor

from vsr.ops.local_window.shifts import allowed_candidates, masked_softmax, window_scores, window_sum
from vsr.ops.tensors import layout_of


def local_window_read(
    query: Tensor, keys: Tensor, values: Tensor | None, window: int, valid: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Computes ``vsr.ops.local_window_read`` without checking its arguments; always returns the weights."""
    keys = without_invalid(keys, valid)
    values = keys if values is None else without_invalid(values, valid)
    weights = masked_softmax(window_scores(query, keys, window), allowed_candidates(keys, window, valid))
    return window_sum(weights, values, window).contiguous(memory_format=layout_of(query)), weights


def without_invalid(frames: Tensor, valid: Tensor | None) -> Tensor:
    """Zeroes the invalid frames: their content may be NaN, and 0 · NaN is NaN."""
    return frames if valid is None else frames.masked_fill(~valid[:, :, None, None, None], 0)
