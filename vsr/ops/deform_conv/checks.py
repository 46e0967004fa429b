"""Checks the arguments of a deformable convolution. Messages name the argument, its value and the expected one."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vsr.ops.tensors import check_float

Pair = tuple[int, int]


def pair(name: str, value: int | tuple[int, int] | list[int], smallest: int) -> Pair:
    """Returns ``value`` as (vertical, horizontal); raises ValueError if one is less than ``smallest`` or no integer."""
    both = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(both) != 2 or not all(isinstance(number, int) for number in both) or min(both) < smallest:
        raise ValueError(f"{name} is {value!r}; expected an integer or a pair of integers, at least {smallest}")
    return both[0], both[1]


def output_size(input: Tensor, weight: Tensor, *geometry: Sequence[int]) -> Pair:
    """Returns the height and width of a convolution's output; ``geometry`` is stride, padding and dilation."""
    stride, padding, dilation = geometry

    def along(axis: int) -> int:
        margin = 2 * padding[axis] - dilation[axis] * (weight.shape[2 + axis] - 1) - 1
        return (input.shape[2 + axis] + margin) // stride[axis] + 1

    return along(0), along(1)


def extents(x: Tensor) -> tuple[int, int]:
    """Returns the number of elements that one image spans in memory, including gaps, and in a dense copy.

    Returns both because ``max()`` and ``Size.numel()`` would turn symbolic sizes into constants.
    """
    spanned = sum((size - 1) * stride for size, stride in zip(x.shape[1:], x.stride()[1:], strict=True)) + 1
    return spanned, math.prod(x.shape[1:])


def check_arguments(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None, *geometry: Pair
) -> None:
    """Raises ValueError if a rank, size or dtype of ``deform_conv2d``'s arguments is wrong; geometry as output_size."""
    _check_kinds(input, {"offset": offset, "weight": weight, "bias": bias, "mask": mask})
    _, channels, height, width = input.shape
    out_channels, group_channels, kernel_height, kernel_width = weight.shape
    taps = kernel_height * kernel_width
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
    output_height, output_width = output_size(input, weight, *geometry)
    if output_height <= 0 or output_width <= 0:
        stride, padding, dilation = geometry
        raise ValueError(
            f"input is {height}x{width}; too small for kernel {kernel_height}x{kernel_width} with stride {stride}, "
            f"padding {padding} and dilation {dilation}: the output would be {output_height}x{output_width}"
        )
    offset_groups = offset.shape[1] // (2 * taps)  # no divmod: torch.jit.trace makes tensors of sizes
    if offset.shape[1] % (2 * taps) or offset_groups == 0 or channels % offset_groups:
        raise ValueError(
            f"offset has {offset.shape[1]} channels; expected 2 * offset_groups * {kernel_height} * {kernel_width} "
            f"with offset_groups dividing the input's {channels} channels"
        )
    for name, x, num_channels in (("offset", offset, offset.shape[1]), ("mask", mask, offset_groups * taps)):
        expected = (input.shape[0], num_channels, output_height, output_width)
        if x is not None and tuple(x.shape) != expected:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {expected}, one value per output position")
    if bias is not None and bias.shape != (out_channels,):
        raise ValueError(f"bias has shape {tuple(bias.shape)}; expected ({out_channels},), weight's output channels")


def _check_kinds(input: Tensor, others: dict[str, Tensor | None]) -> None:
    """Checks ranks and dtypes."""
    for name, x in {"input": input, **others}.items():
        if x is None:
            continue
        check_float(name, x)
        if name != "bias" and x.dim() != 4:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; expected 4 dimensions")
        if name in ("weight", "bias") and x.dtype != input.dtype:
            raise ValueError(f"{name} has dtype {x.dtype}; expected {input.dtype} as input has")
        if name in ("offset", "mask") and (x.dtype == torch.float64) != (input.dtype == torch.float64):
            raise ValueError(f"{name} has dtype {x.dtype}; expected float64 beside a float64 input, and only there")
