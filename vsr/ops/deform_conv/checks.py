"""Checks the arguments of a deformable convolution. Messages name the argument, its value and the expected one."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vsr.ops.tensors import FLOATS

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """Sizes derived from the arguments of a deformable convolution."""

    groups: int
    offset_groups: int
    output_height: int
    output_width: int


def pair(name: str, value: int | tuple[int, int] | list[int], smallest: int) -> Pair:
    """Returns ``value`` as (vertical, horizontal).

    Raises:
        ValueError: ``value`` is not an integer or a pair of integers, or one is less than ``smallest``.
    """
    both = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(both) != 2 or not all(isinstance(number, int) for number in both) or min(both) < smallest:
        raise ValueError(f"{name} is {value!r}; expected an integer or a pair of integers, at least {smallest}")
    return both[0], both[1]


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Returns the length of a convolution's output along one axis."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def extents(x: Tensor) -> tuple[int, int]:
    """Returns the number of elements that one image spans in memory, including gaps, and in a dense copy.

    Returns both because ``max()`` and ``Size.numel()`` would turn symbolic sizes into constants.
    """
    spanned = sum((size - 1) * stride for size, stride in zip(x.shape[1:], x.stride()[1:], strict=True)) + 1
    return spanned, math.prod(x.shape[1:])


def check_arguments(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Geometry:
    """Returns the geometry of ``deform_conv2d``'s arguments.

    Raises:
        ValueError: a rank, size, dtype or device is wrong.
    """
    _check_kinds(input, offset, weight, bias, mask)
    _, channels, height, width = input.shape
    out_channels, group_channels, kernel_height, kernel_width = weight.shape
    taps = kernel_height * kernel_width
    if taps == 0 or out_channels == 0 or group_channels == 0:
        raise ValueError(f"weight has shape {tuple(weight.shape)}; expected (co, c / groups, kh, kw) without a 0")
    if channels == 0 or channels % group_channels:
        raise ValueError(
            f"input has {channels} channels; expected a multiple of {group_channels}, "
            f"the second size of weight {tuple(weight.shape)}"
        )
    groups = channels // group_channels
    if out_channels % groups:
        raise ValueError(
            f"weight has {out_channels} output channels; expected a multiple of groups = {channels} input channels "
            f"/ {group_channels} = {groups}"
        )
    output_height = output_size(height, kernel_height, stride[0], padding[0], dilation[0])
    output_width = output_size(width, kernel_width, stride[1], padding[1], dilation[1])
    if output_height <= 0 or output_width <= 0:
        raise ValueError(
            f"input is {height}x{width}; too small for kernel {kernel_height}x{kernel_width} with stride {stride}, "
            f"padding {padding} and dilation {dilation}: the output would be {output_height}x{output_width}"
        )
    if height * width >= 2**31 or output_height * output_width >= 2**31:
        raise ValueError(f"input is {height}x{width}; expected fewer than 2^31 pixels in a frame: cut it into tiles")
    offset_groups, rest = divmod(offset.shape[1], 2 * taps)
    if rest or offset_groups == 0 or channels % offset_groups:
        raise ValueError(
            f"offset has {offset.shape[1]} channels; expected 2 * offset_groups * {kernel_height} * {kernel_width} "
            f"with offset_groups dividing the input's {channels} channels"
        )
    _check_map("offset", offset, (input.shape[0], offset.shape[1], output_height, output_width))
    if mask is not None:
        _check_map("mask", mask, (input.shape[0], offset_groups * taps, output_height, output_width))
    if bias is not None and bias.shape != (out_channels,):
        raise ValueError(f"bias has shape {tuple(bias.shape)}; expected ({out_channels},), weight's output channels")
    return Geometry(groups, offset_groups, output_height, output_width)


def check_tensors(input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None) -> None:
    """Checks that the arguments of ``deform_conv2d`` are tensors of the right rank.

    Raises:
        ValueError: an argument is not.
    """
    for name, tensor in _named(input, offset, weight, bias, mask).items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} is a {type(tensor).__name__}; expected a tensor")
        if name != "bias" and tensor.dim() != 4:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected 4 dimensions")


def _named(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None
) -> dict[str, Tensor]:
    optional = {name: tensor for name, tensor in (("bias", bias), ("mask", mask)) if tensor is not None}
    return {"input": input, "offset": offset, "weight": weight, **optional}


def _check_kinds(input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None) -> None:
    for name, tensor in _named(input, offset, weight, bias, mask).items():
        if tensor.dtype not in FLOATS:
            raise ValueError(f"{name} has dtype {tensor.dtype}; expected float32, float64, float16 or bfloat16")
        if tensor.device != input.device:
            raise ValueError(f"{name} is on {tensor.device}; expected {input.device}, where input is")
        if name in ("weight", "bias") and tensor.dtype != input.dtype:
            raise ValueError(f"{name} has dtype {tensor.dtype}; expected {input.dtype} as input has")
        if name in ("offset", "mask") and (tensor.dtype == torch.float64) != (input.dtype == torch.float64):
            raise ValueError(
                f"{name} has dtype {tensor.dtype}; expected float64 beside a float64 input, and only there"
            )


def _check_map(name: str, tensor: Tensor, expected: tuple[int, int, int, int]) -> None:
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {expected}, one value per output position")
