"""Attention to every position of every frame, without storing all scores."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from vsr.ops.local_window.shifts import masked_softmax
from vsr.ops.tensors import exporting

# Scores held at once where the back end computes them in full; 5 × 180 × 320 positions would need 62 GiB.
_MAX_SCORES_BYTES = 2**28
# Elsewhere chunks only keep single calls on a CPU down to seconds, so that Ctrl-C is heard.
_CPU_QUERIES = 8192


def whole_space_read(query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None = None) -> Tensor:
    """Reads every position of every frame, at every position.

    o(x) = Σ p v_i(y), with p the softmax over frames i and positions y of ⟨q(x), k_i(y)⟩.
    Uses ``scaled_dot_product_attention``. Where it would materialise the scores, the queries are processed in chunks,
    which are recomputed in the backward pass.

    Args:
        query: (b, c, h, w); the scale of the scores is part of it.
        keys: (b, t, c, h, w).
        values: (b, t, e, h, w); None reads the keys.
        valid: (b, t), false for frames to leave out; None uses all.

    Returns:
        (b, e, h, w); 0 where no frame is valid.
    """
    h, w = query.shape[-2:]
    q, k = _tokens(query[:, None]), _tokens(keys)
    q = q.to(k.dtype)
    v = k if values is None else _tokens(values).to(k.dtype)
    mask = nothing = None
    if valid is not None:
        nothing = ~valid.any(1)[:, None, None, None]
        mask = (valid[:, None, None, :] | nothing).repeat_interleave(h * w, -1)  # (b, 1, 1, t·h·w)
    if exporting():  # sizes may be symbolic, and other runtimes choose for themselves
        queries, in_full = [q], False
    else:
        with _repeatable(q):
            chunk, in_full = _queries_at_once(q, k, v, mask)
        queries = q.split(chunk, 2)

    def attend(part: Tensor) -> Tensor:
        with _repeatable(part):
            return F.scaled_dot_product_attention(part, k, v, attn_mask=mask, scale=1.0)

    must_repeat = in_full and torch.is_grad_enabled()
    run = partial(checkpoint, attend, use_reentrant=False) if must_repeat else attend
    parts: list[Any] = [run(part) for part in queries]
    read = torch.cat(parts, 2)  # (b, 1, h·w, e)
    if nothing is not None:
        read = read.masked_fill(nothing, 0)
    return read.squeeze(1).transpose(1, 2).unflatten(2, (h, w))


def frame_weights(query: Tensor, keys: Tensor, valid: Tensor | None = None) -> Tensor:
    """Returns how much of each position's weight lies in each frame, (b, t, h, w): a read of one-hot frame numbers."""
    b, t, c, h, w = keys.shape
    # As wide as the keys where that is enough: back ends that don't materialise the scores want equal widths.
    numbers = torch.eye(t, max(c, t), dtype=keys.dtype, device=keys.device)  # (t, c)
    values = numbers[None, :, :, None, None].expand(b, -1, -1, h, w)
    return whole_space_read(query, keys, values, valid)[:, :t]


def position_weights(query: Tensor, keys: Tensor, positions: Tensor, valid: Tensor | None = None) -> Tensor:
    """Returns the weights of a few query positions over all positions of all frames.

    Args:
        query: (b, c, h, w).
        keys: (b, t, c, h, w).
        positions: (n, 2), rows and columns.
        valid: (b, t) or None.

    Returns:
        (b, n, t, h, w), of sum 1 over (t, h, w).
    """
    b, t, _, h, w = keys.shape
    chosen = query[:, :, positions[:, 0], positions[:, 1]]  # (b, c, n)
    scores = torch.einsum("bcn,btchw->bthwn", chosen, keys)
    allowed = torch.ones(b, t, dtype=torch.bool, device=keys.device) if valid is None else valid
    allowed = allowed[:, :, None, None, None].expand(b, t, h, w, 1)
    return masked_softmax(scores.flatten(1, 3), allowed.flatten(1, 3)).movedim(2, 1).unflatten(2, (t, h, w))


def _tokens(frames: Tensor) -> Tensor:
    # contiguous: of one frame this would be a view, and back ends refuse channels that are not next to each other
    return frames.movedim(2, -1).flatten(1, 3).contiguous().unsqueeze(1)  # (b, 1, t·h·w, c)


def _repeatable(q: Tensor) -> AbstractContextManager[Any]:
    """Returns the context in which attention gives the same bits again, if that is wanted.

    On CUDA the fused back ends' gradients differ from run to run: under ``warn_only=True`` PyTorch warns and still uses
    them.
    """
    wanted = q.is_cuda and torch.are_deterministic_algorithms_enabled()
    return sdpa_kernel(SDPBackend.MATH) if wanted else nullcontext()


def _queries_at_once(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[int, bool]:
    """Returns how many queries a call may hold, and whether the back end materialises their scores."""
    # Private, but the dispatcher's own answer, for every device; the public can_use_* questions are CUDA's alone.
    choice = torch._fused_sdp_choice(q, k, v, mask, scale=1.0)  # type: ignore[attr-defined]  # not in the stubs
    in_full = choice == SDPBackend.MATH.value
    if not in_full:
        return _CPU_QUERIES if q.device.type == "cpu" else max(1, q.shape[2]), False
    row_bytes = q.shape[0] * k.shape[2] * max(q.element_size(), 4)
    return max(1, _MAX_SCORES_BYTES // max(1, row_bytes)), True
