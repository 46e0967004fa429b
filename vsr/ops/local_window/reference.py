"""The local window read in plain PyTorch: the specification of the compiled and Triton kernels, and the fallback.

A loop over the shifts with its own gradient rule. In addition to arguments, results and gradients it stores a few
weight maps (b, t·R², h, w), but never R² copies of a frame. Keys that are also the values need a single gradient. It
supports any device and floating-point dtype.
"""

from typing import Any

import torch
from torch import Tensor

from vsr.ops.local_window.shifts import allowed_candidates, correlate, gather, masked_softmax, spread_
from vsr.ops.tensors import layout_of


def local_window_read(
    query: Tensor, keys: Tensor, values: Tensor | None, window: int, valid: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Computes ``vsr.ops.local_window_read`` without checking its arguments; always returns the weights."""
    keys = without_invalid(keys, valid)
    values = None if values is None else without_invalid(values, valid)
    read, weights = _LocalWindowRead.apply(query, keys, values, window, valid)
    return read.contiguous(memory_format=layout_of(query)), weights


def without_invalid(frames: Tensor, valid: Tensor | None) -> Tensor:
    """Zeroes the invalid frames: their content may be NaN, and 0 · NaN is NaN."""
    return frames if valid is None else frames.masked_fill(~valid[:, :, None, None, None], 0)


class _LocalWindowRead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, keys: Tensor, values: Tensor | None, window: int, valid: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        scores = correlate(query, keys, window)
        weights = masked_softmax(scores, allowed_candidates(keys, window, valid))
        ctx.save_for_backward(query, keys, keys if values is None else values, weights)
        ctx.window, ctx.reads_keys = window, values is None
        ctx.set_materialize_grads(False)
        return gather(weights, keys if values is None else values, window), weights

    @staticmethod
    def backward(ctx: Any, grad_read: Tensor | None, grad_weights: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # once_differentiable would only detach: second derivatives would be missing
            raise RuntimeError("local_window_read is differentiable once; compose window_scores and window_sum instead")
        query, keys, values, weights = ctx.saved_tensors
        window = ctx.window
        grad_scores = torch.zeros_like(weights) if grad_read is None else correlate(grad_read, values, window)
        if grad_weights is not None:
            grad_scores += grad_weights
        grad_scores *= weights
        grad_scores.addcmul_(weights, grad_scores.sum(1, keepdim=True), value=-1)

        grad_query = gather(grad_scores, keys, window) if ctx.needs_input_grad[0] else None
        grad_keys = grad_values = None
        if ctx.needs_input_grad[1]:
            grad_keys = spread_(torch.zeros_like(keys, dtype=weights.dtype), grad_scores, query, window)
            if ctx.reads_keys and grad_read is not None:
                spread_(grad_keys, weights, grad_read, window)
            grad_keys = grad_keys.to(keys.dtype)
        if ctx.needs_input_grad[2] and grad_read is not None:
            grad_values = spread_(torch.zeros_like(values, dtype=weights.dtype), weights, grad_read, window)
            grad_values = grad_values.to(values.dtype)
        return grad_query, grad_keys, grad_values, None, None
