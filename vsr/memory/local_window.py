"""The read of a spatial window in every frame: one function, so that a faster kernel can take its place.

Specification, with candidates n = (frame i, shift δ) numbered as in ``shifts.py``; a candidate is *allowed* at x when
x + δ is inside the frame and frame i is valid:

    s_n(x) = ⟨q(x), k_i(x + δ)⟩          p(x) = softmax over the allowed n of s(x), 0 for the others
    o(x)   = Σ_n p_n(x) v_i(x + δ)        (0 where nothing is allowed)

Peak memory beside arguments, results and gradients: a few weight maps (b, t·R², h, w), never R² copies of a frame.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from vsr.memory.shifts import WindowContext, correlate, gather, inside_window, spread_


class WindowRead(NamedTuple):
    """What ``local_window_read`` returns."""

    read: Tensor  # (b, c, h, w)
    weights: Tensor  # (b, t·R², h, w), float32 for half-precision features


def local_window_read(
    query: Tensor, keys: Tensor, values: Tensor | None, window: int, valid: Tensor | None = None
) -> WindowRead:
    """Reads, at every position, the R × R window around it in all frames.

    Args:
        query: (b, c, h, w); the scale of the scores is part of it.
        keys: (b, t, c, h, w).
        values: (b, t, e, h, w); None reads the keys themselves, and needs only one gradient of their size.
        window: R, odd; 1 compares equal positions only.
        valid: (b, t), false for frames to leave out; None uses all.

    Returns:
        The read (b, e, h, w) and the weights; both are differentiable once.
    """
    dtype = torch.promote_types(query.dtype, keys.dtype)
    keys = keys.to(dtype)
    return WindowRead(*_LocalWindowRead.apply(query.to(dtype), keys, values, window, valid))


def masked_softmax(scores: Tensor, allowed: Tensor) -> Tensor:
    """Returns the softmax over dimension 1 of the allowed scores.

    Args:
        scores: (b, n, …).
        allowed: what may have weight, broadcastable to ``scores``.

    Returns:
        Like ``scores``; 0 where not allowed, also where nothing is.
    """
    nothing = ~allowed.any(1, keepdim=True)
    weights = scores.masked_fill(~(allowed | nothing), float("-inf")).softmax(1)
    return weights.masked_fill(~allowed, 0)


def allowed_candidates(frames: Tensor, window: int, valid: Tensor | None) -> Tensor:
    """Returns (b or 1, t·R², h, w), true where the candidate is inside the frame and its frame valid."""
    t, (h, w) = frames.shape[1], frames.shape[-2:]
    inside = inside_window(h, w, window, frames.device)[None, None]  # (1, 1, R², h, w)
    if valid is None:
        return inside.expand(-1, t, -1, -1, -1).flatten(1, 2)
    return (inside & valid[:, :, None, None, None]).flatten(1, 2)


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
