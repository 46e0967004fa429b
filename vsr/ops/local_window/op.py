"""Attention over a spatial window in every frame: the operator ``vsr::local_window_read`` and the public function.

Specification, with candidates n = (frame i, shift δ) numbered as in ``shifts.py``. A candidate is *allowed* at x if
x + δ is inside the frame and frame i is valid:

    s_n(x) = ⟨q(x), k_i(x + δ)⟩          p(x) = softmax over the allowed n of s(x), 0 for the others
    o(x)   = Σ_n p_n(x) v_i(x + δ)        (0 where no candidate is allowed)

The kernels are in ``csrc/local_window``, ``triton.py`` and ``reference.py``; ``backend.py`` selects among them. All but
the reference save log Σ exp(s) for the backward pass instead of the weights.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vsr.ops import backend
from vsr.ops.local_window import reference
from vsr.ops.local_window.reference import without_invalid
from vsr.ops.local_window.shifts import allowed_candidates, masked_softmax, window_scores
from vsr.ops.tensors import accumulator, check_float, check_tensors, exporting, layout_of

_library = torch.library.Library("vsr", "FRAGMENT")
# Returns the read and log_sum = log Σ exp(s) over the allowed candidates: (b, h, w), +∞ where there is none, so that
# exp(s - log_sum) is the weight everywhere.
backend.define(
    _library,
    "local_window_read(Tensor query, Tensor keys, Tensor? values, Tensor? valid, int window) -> (Tensor, Tensor)",
)
# Returns the gradients of query, keys and values; those not `needed` are empty. delta is ⟨grad_read, read⟩ minus the
# gradient of log_sum.
backend.define(
    _library,
    "local_window_read_backward(Tensor grad_read, Tensor query, Tensor keys, Tensor? values, Tensor? valid, "
    "Tensor log_sum, Tensor delta, int window, bool[3] needed) -> (Tensor, Tensor, Tensor)",
)


class WindowRead(NamedTuple):
    """The result of ``local_window_read``."""

    read: Tensor  # (b, e, h, w)
    weights: Tensor | None  # (b, t·R², h, w), float32 for half-precision features; None unless requested


def local_window_read(
    query: Tensor,
    keys: Tensor,
    values: Tensor | None,
    window: int,
    valid: Tensor | None = None,
    return_weights: bool = False,
) -> WindowRead:
    """Attends, at every position, to the R × R window around it in all frames.

    Features of different dtypes are promoted to the widest; autocast has no further effect. Half precision is computed
    in float32.

    Args:
        query: (b, c, h, w), float32, float64, float16 or bfloat16. It includes the scale of the scores.
        keys: (b, t, c, h, w).
        values: (b, t, e, h, w). Default: the keys, which then need a single gradient.
        window: R, odd. 1 compares equal positions only.
        valid: (b, t), False for frames to ignore; their content may be anything. Default: all frames are valid.
        return_weights: whether to return the weights. Otherwise nothing of their size is stored.

    Returns:
        The read and the weights; both are differentiable once. The read is channels_last if the query is.

    Raises:
        ValueError: a rank, size, dtype or device is wrong, or ``VSR_OPS`` forces a back end that cannot run here.
    """
    _check_arguments(query, keys, values, window, valid)
    dtype = torch.promote_types(query.dtype, keys.dtype)
    if values is not None:
        dtype = torch.promote_types(dtype, values.dtype)
        values = values.to(dtype)
    query, keys = query.to(dtype), keys.to(dtype)
    sizes = [math.prod(x.shape[-3:]) for x in (keys, keys if values is None else values)]
    if not (query.is_meta or exporting()) and backend.use_reference("local_window_read", query, sizes):
        read, weights = reference.local_window_read(query, keys, values, window, valid)
        return WindowRead(read, weights if return_weights else None)
    read, _ = torch.ops.vsr.local_window_read(query, keys, values, valid, window)
    if not return_weights:
        return WindowRead(read, None)
    keys = without_invalid(keys, valid).to(accumulator(dtype))  # products have the dtype of their factors
    scores = window_scores(query, keys, window)
    return WindowRead(read, masked_softmax(scores, allowed_candidates(keys, window, valid)))


def _check_arguments(query: Tensor, keys: Tensor, values: Tensor | None, window: int, valid: Tensor | None) -> None:
    check_tensors({"query": query, "keys": keys}, {"values": values, "valid": valid})
    for name, x in (("query", query), ("keys", keys), ("values", values)):
        if x is not None:
            check_float(name, x)
    if query.dim() != 4:
        raise ValueError(f"query has shape {tuple(query.shape)}; expected (b, c, h, w)")
    b, c, h, w = query.shape
    if keys.dim() != 5 or keys.shape[1] < 1 or keys[:, 0].shape != query.shape:
        raise ValueError(f"keys has shape {tuple(keys.shape)}; expected ({b}, at least 1, {c}, {h}, {w}), as the query")
    t = keys.shape[1]
    if values is not None and (values.dim() != 5 or values[:, :, :1].shape != (b, t, 1, h, w)):
        raise ValueError(f"values has shape {tuple(values.shape)}; expected ({b}, {t}, e, {h}, {w}), as the keys")
    if not isinstance(window, int) or window < 1 or window % 2 == 0:
        raise ValueError(f"window is {window!r}; expected an odd number, at least 1")
    if valid is not None and (valid.dtype != torch.bool or valid.shape != (b, t)):
        raise ValueError(f"valid is {valid.dtype} {tuple(valid.shape)}; expected torch.bool {(b, t)}")


@torch.library.register_fake("vsr::local_window_read", lib=_library)
def _fake(
    query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None, window: int
) -> tuple[Tensor, Tensor]:
    b, _, h, w = query.shape
    size = (b, (keys if values is None else values).shape[2], h, w)
    read = torch.empty(size, dtype=query.dtype, device=query.device, memory_format=layout_of(query))
    return read, query.new_empty((b, h, w), dtype=accumulator(query.dtype))


@torch.library.register_fake("vsr::local_window_read_backward", lib=_library)
def _fake_backward(
    grad_read: Tensor, query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None, *options: Any
) -> tuple[Tensor, ...]:
    *_, needed = options
    return (
        torch.empty_like(query) if needed[0] else query.new_empty(0),
        torch.empty_like(keys) if needed[1] else query.new_empty(0),
        torch.empty_like(values) if needed[2] and values is not None else query.new_empty(0),
    )


def _save_for_backward(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.window = inputs
    ctx.save_for_backward(*tensors, *output)


def _backward(ctx: Any, grad_read: Tensor, grad_log_sum: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():  # without this error, second derivatives would silently be missing
        raise RuntimeError("local_window_read is differentiable once; VSR_OPS=reference supports higher derivatives")
    *inputs, read, log_sum = ctx.saved_tensors
    delta = (grad_read.to(log_sum.dtype) * read).sum(1) - grad_log_sum
    needed = list(ctx.needs_input_grad[:3])
    computed = torch.ops.vsr.local_window_read_backward(grad_read, *inputs, log_sum, delta, ctx.window, needed)
    return *(gradient if wanted else None for gradient, wanted in zip(computed, needed, strict=True)), None, None


torch.library.register_autograd("vsr::local_window_read", _backward, setup_context=_save_for_backward, lib=_library)
backend.use_triton("local_window_read", "vsr.ops.local_window.triton", _library)
