"""The local window read in Triton, for CUDA: forward and backward without atomics, hence deterministic.

The kernels expect the channels innermost: with 128 contiguous bytes per position they need an eighth of the load
instructions. Features and gradients in another layout are copied; channels_last networks need no copies.
"""

# Triton's compiler defines the types of kernel arguments.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

import torch
import triton
from torch import Tensor

from vsr.ops.local_window.triton_kernels import frame_gradients_kernel, query_gradient_kernel, read_kernel
from vsr.ops.tensors import layout_of

_COLUMNS = 16  # width of a tile


def constants(
    keys: Tensor, values: Tensor | None, valid: Tensor | None, window: int, backward: bool
) -> dict[str, int | bool]:
    """Returns the compile-time parameters common to all kernels, and the launch options.

    A tile is as large as fits into registers when compiled for sm_90; the backward kernels hold about twice as much per
    position.
    """
    t, c = keys.shape[1:3]
    e = c if values is None else values.shape[2]
    padded_c, padded_e = (max(16, triton.next_power_of_2(size)) for size in (c, e))
    positions = (2048 if backward else 4096) // max(padded_c, padded_e)
    # enable_fp_fusion: the default before Triton 3.10, which requires it.
    return {
        "T": t, "C": c, "CP": padded_c, "E": e, "EP": padded_e, "WINDOW": window, "READS_KEYS": values is None,
        "HAS_VALID": valid is not None, "BY": min(max(positions // _COLUMNS, 1), 8), "BX": _COLUMNS,
        "num_warps": 4, "enable_fp_fusion": True,
    }  # fmt: skip


def forward(
    query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None, window: int
) -> tuple[Tensor, Tensor]:
    """Computes ``vsr::local_window_read`` on a CUDA device."""
    known = constants(keys, values, valid, window, backward=False)
    b, _, h, w = query.shape
    read = torch.empty(b, h, w, known["E"], dtype=query.dtype, device=query.device)
    log_sum = torch.empty(b, h, w, device=query.device)
    if log_sum.numel():
        arguments = _inputs(query, keys, values, valid)
        read_kernel[_tiles(h, w, known), b](*arguments, read, log_sum, h, w, **known)
    return read.movedim(-1, 1).contiguous(memory_format=layout_of(query)), log_sum


def backward(
    grad_read: Tensor, query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None, log_sum: Tensor,
    delta: Tensor, window: int, needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Computes ``vsr::local_window_read_backward`` on a CUDA device."""
    known = constants(keys, values, valid, window, backward=True)
    (b, t, _, h, w), tiles = keys.shape, _tiles(*keys.shape[-2:], known)
    need_values = needed[2] and values is not None
    query_, keys_, values_, flags = _inputs(query, keys, values, valid)
    saved = (_inner(grad_read), query_, keys_, values_, flags, log_sum.contiguous(), delta.contiguous())
    grad_query = torch.empty_like(query_) if needed[0] else query_
    grad_keys = torch.empty_like(keys_) if needed[1] else keys_
    grad_values = torch.empty_like(values_) if need_values else values_
    if needed[0] and delta.numel():
        query_gradient_kernel[tiles, b](*saved, grad_query, h, w, **known)
    if (needed[1] or need_values) and delta.numel():
        frame_gradients_kernel[tiles, b * t](
            *saved, grad_keys, grad_values, h, w, **known, NEED_KEYS=needed[1], NEED_VALUES=need_values
        )
    nothing = query.new_empty(0)
    return (
        _laid_out(grad_query, query) if needed[0] else nothing,
        _laid_out(grad_keys, keys) if needed[1] else nothing,
        _laid_out(grad_values, values) if need_values else nothing,
    )


def _inputs(query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None) -> tuple[Tensor, ...]:
    """Returns query, keys, values and valid in the kernels' layout. An argument that is None is not read."""
    keys = _inner(keys)
    flags = keys if valid is None else valid.to(torch.int8).contiguous()
    return _inner(query), keys, keys if values is None else _inner(values), flags


def _inner(x: Tensor) -> Tensor:
    """Returns (…, c, h, w) as contiguous (…, h, w, c)."""
    return x.movedim(-3, -1).contiguous()


def _laid_out(x: Tensor, like: Tensor) -> Tensor:
    """Returns contiguous (…, h, w, c) as (…, c, h, w) with the strides of ``like``, as the fake rule requires."""
    x, result = x.movedim(-1, -3), torch.empty_like(like)
    return x if x.stride() == result.stride() else result.copy_(x)


def _tiles(height: int, width: int, known: dict[str, int | bool]) -> int:
    return triton.cdiv(height, known["BY"]) * triton.cdiv(width, known["BX"])
