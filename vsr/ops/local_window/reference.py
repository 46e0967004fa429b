"""The local window read in plain PyTorch: the specification of the compiled and Triton kernels, and the last resort.

A loop over the shifts with a gradient rule of its own, which needs a few weight maps (b, t·R², h, w) beside arguments,
results and gradients, never R² copies of a frame, and one gradient of the keys' size where they are keys and values at
once. Any device, any floating-point type.
"""

import torch
from torch import Tensor

from vsr.ops.local_window.shifts import WindowContext, allowed_candidates, correlate, gather, masked_softmax, spread_
from vsr.ops.tensors import layout_of


def local_window_read(
    query: Tensor, keys: Tensor, values: Tensor | None, window: int, valid: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Returns the read and the weights, as ``vsr.ops.local_window_read`` describes them, unchecked."""
    keys = without_invalid(keys, valid)
    values = None if values is None else without_invalid(values, valid)
    read, weights = _LocalWindowRead.apply(query, keys, values, window, valid)
    return read.contiguous(memory_format=layout_of(query)), weights


def without_invalid(frames: Tensor, valid: Tensor | None) -> Tensor:
    """Returns the frames with 0 for the invalid ones: they may hold anything, and 0 · NaN is NaN."""
    return frames if valid is None else frames.masked_fill(~valid[:, :, None, None, None], 0)


class _LocalWindowRead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: WindowContext, query: Tensor, keys: Tensor, values: Tensor | None, window: int, valid: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        scores = correlate(query, keys, window)
        weights = masked_softmax(scores, allowed_candidates(keys, window, valid))
        ctx.save_for_backward(query, keys, keys if values is None else values, weights)
        ctx.window = window
        ctx.reads_keys = values is None
        ctx.set_materialize_grads(False)
        return gather(weights, keys if values is None else values, window), weights

    @staticmethod
    def backward(
        ctx: WindowContext, grad_read: Tensor | None, grad_weights: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        if torch.is_grad_enabled():  # once_differentiable would only detach here, and a gradient be missing silently
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
