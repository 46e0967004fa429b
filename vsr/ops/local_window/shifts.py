"""Contractions of a map with the shifted frames of a spatial window, in bounded memory and without unfolding.

The *candidate* (frame i, row shift, column shift) of a window of R × R shifts has number n = (i·R + row)·R + column;
the unshifted one is in the middle of its frame's R² numbers. For a map q (b, c, h, w), frames f (b, t, c, h, w) and
weights p (b, t·R², h, w), with δ the shift of n, summed over the positions x + δ inside the frame,

    T(q, f, p) = Σ_n Σ_x p_n(x) ⟨q(x), f_i(x + δ)⟩

is linear in each argument. The three functions below are its derivatives with respect to p, q and f, and therefore also
the derivatives of each other: they are differentiable any number of times. Each stores one block of rows in addition to
its result. Half precision accumulates in float32, and the scores are then float32.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.ops.tensors import accumulator, exporting

# Products stored at once. On a CPU, 2^20 keeps them in the cache (180×320, 128 channels, 125 candidates: 0.59 s instead
# of 0.86 s); on a GPU, launches would cost more than the cache saves.
_CPU_BLOCK = 2**20
_BLOCK = 2**26


def window_scores(query: Tensor, frames: Tensor, window: int) -> Tensor:
    """Returns ∂T/∂p, the inner products ⟨q(x), f_i(x + δ)⟩: (b, t·R², h, w); 0 where x + δ is outside the frame.

    Args:
        query: (b, c, h, w).
        frames: (b, t, c, h, w).
        window: R, odd.
    """
    if exporting():
        return scores_by_slices(query, frames, window)
    dtype = torch.promote_types(query.dtype, frames.dtype)
    return _Contraction.apply(None, query.to(dtype), frames.to(dtype), window)


def window_sum(weights: Tensor, frames: Tensor, window: int) -> Tensor:
    """Returns ∂T/∂q, each position's weighted sum of its candidates Σ_n p_n(x) f_i(x + δ): (b, c, h, w).

    Args:
        weights: (b, t·R², h, w).
        frames: (b, t, c, h, w).
        window: R, odd.
    """
    if exporting():
        return sum_by_slices(weights, frames, window)
    return _Contraction.apply(weights, None, frames, window)


def scores_by_slices(query: Tensor, frames: Tensor, window: int) -> Tensor:
    """Computes ``window_scores`` of maps of symbolic size, for export: without blocks and a gradient rule."""
    return torch.cat([(query * part).sum(1, keepdim=True) for part in _candidates(frames, window)], 1)


def sum_by_slices(weights: Tensor, frames: Tensor, window: int) -> Tensor:
    """Computes ``window_sum`` of maps of symbolic size, for export."""
    total = torch.zeros_like(frames[:, 0])
    for number, part in enumerate(_candidates(frames, window)):
        total = total + weights[:, number, None] * part
    return total


def _candidates(frames: Tensor, window: int) -> list[Tensor]:
    """Returns the frames shifted by each shift of a window, in the order of candidates, each (b, c, h, w)."""
    t, (h, w) = frames.shape[1], frames.shape[-2:]
    padded = F.pad(frames, (window // 2,) * 4)
    starts = [(frame, row, column) for frame in range(t) for row in range(window) for column in range(window)]
    return [padded[:, frame, :, row : row + h, column : column + w] for frame, row, column in starts]


def inside_window(height: int, width: int, window: int, device: torch.device) -> Tensor:
    """Returns (R², h, w), True where the position shifted by δ is inside the frame."""
    shifts = torch.arange(window, device=device)[:, None] - window // 2
    rows, columns = torch.arange(height, device=device) + shifts, torch.arange(width, device=device) + shifts
    rows_inside = (rows >= 0) & (rows < height)  # (R, h)
    columns_inside = (columns >= 0) & (columns < width)  # (R, w)
    return (rows_inside[:, None, :, None] & columns_inside[None, :, None, :]).flatten(0, 1)


def allowed_candidates(frames: Tensor, window: int, valid: Tensor | None) -> Tensor:
    """Returns (b or 1, t·R², h, w), True where the candidate is inside the frame and the frame is valid."""
    t, (h, w) = frames.shape[1], frames.shape[-2:]
    inside = inside_window(h, w, window, frames.device)[None, None]  # (1, 1, R², h, w)
    if valid is None:
        return inside.expand(-1, t, -1, -1, -1).flatten(1, 2)
    return (inside & valid[:, :, None, None, None]).flatten(1, 2)


def masked_softmax(scores: Tensor, allowed: Tensor) -> Tensor:
    """Returns the softmax over dimension 1 of the allowed scores; 0 for the others, even where none is allowed.

    Args:
        scores: (b, n, …).
        allowed: bool, broadcastable to ``scores``.
    """
    nothing = ~allowed.any(1, keepdim=True)
    weights = scores.masked_fill(~(allowed | nothing), float("-inf")).softmax(1)
    return weights.masked_fill(~allowed, 0)


def correlate(query: Tensor, frames: Tensor, window: int) -> Tensor:
    """Computes ``window_scores`` without a gradient rule."""
    b, t, _, h, w = frames.shape
    scores = query.new_zeros(b, t, window * window, h, w, dtype=accumulator(query.dtype))
    for shift, here, there in _blocks(query, window):
        for frame in range(t):
            product = query[here] * frames[:, frame][there]
            scores[:, frame, shift, None][here] = product.sum(1, keepdim=True, dtype=scores.dtype)
    return scores.flatten(1, 2)


def gather(weights: Tensor, frames: Tensor, window: int) -> Tensor:
    """Computes ``window_sum`` without a gradient rule."""
    b, t, c, h, w = frames.shape
    weights = weights.unflatten(1, (t, window * window))
    total = frames.new_zeros(b, c, h, w, dtype=accumulator(frames.dtype))
    for shift, here, there in _blocks(total, window):
        for frame in range(t):
            total[here].addcmul_(weights[:, frame, None, shift][here], frames[:, frame][there])
    return total.to(frames.dtype)


def spread_(total: Tensor, weights: Tensor, query: Tensor, window: int) -> Tensor:
    """Adds ∂T/∂f to ``total`` (b, t, c, h, w) in place: position y of frame i receives Σ_δ p_n(y − δ) q(y − δ)."""
    t = total.shape[1]
    weights = weights.unflatten(1, (t, window * window))
    for shift, here, there in _blocks(query, window):
        for frame in range(t):
            total[:, frame][there].addcmul_(weights[:, frame, None, shift][here], query[here])
    return total


def _blocks(like: Tensor, window: int) -> Iterator[tuple[int, tuple[slice, ...], tuple[slice, ...]]]:
    """Yields (number of the shift, slices at x, slices at x + δ) for blocks of rows; the slices index (b, c, h, w)."""
    b, c, h, w = like.shape
    num_rows = max(1, (_CPU_BLOCK if like.device.type == "cpu" else _BLOCK) // max(1, b * c * w))
    everything = slice(None)
    for first in range(0, h, num_rows):
        for shift in range(window * window):
            down, right = shift // window - window // 2, shift % window - window // 2
            top, bottom = max(first, -down), min(first + num_rows, h - down, h)
            left, end = max(0, -right), min(w, w - right)
            if top < bottom and left < end:
                here = (everything, everything, slice(top, bottom), slice(left, end))
                there = (everything, everything, slice(top + down, bottom + down), slice(left + right, end + right))
                yield shift, here, there


class _Contraction(torch.autograd.Function):
    """The derivative of T with respect to the one of weights, query and frames that is None."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor | None, query: Tensor | None, frames: Tensor | None, window: int) -> Tensor:
        ctx.save_for_backward(weights, query, frames)
        ctx.window = window
        if query is not None and frames is not None:
            return correlate(query, frames, window)
        if weights is not None and frames is not None:
            return gather(weights, frames, window)
        assert weights is not None and query is not None, "one factor is None"
        t = weights.shape[1] // window**2
        total = query.new_zeros(query.shape[0], t, *query.shape[1:], dtype=accumulator(query.dtype))
        return spread_(total, weights, query, window).to(query.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients: list[Tensor | None] = []
        for i, given in enumerate(ctx.saved_tensors):
            factors = [grad if x is None else x for x in ctx.saved_tensors]
            factors[i] = None
            wanted = ctx.needs_input_grad[i]
            gradients.append(_Contraction.apply(*factors, ctx.window).to(given.dtype) if wanted else None)
        return *gradients, None
