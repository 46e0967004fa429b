"""The operators as ONNX nodes: ``DeformConv`` and ``GridSample``, or gathers for runtimes that lack them.

The functions receive the values and attributes of ``vsr::deform_conv2d`` and ``vsr::flow_warp`` and build their nodes.
Importing this module needs the package ``onnxscript``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import opset18, opset19

op: Any = opset18  # its types are those of values, not of nodes; the exporter converts to the version that is asked for
FLOAT, INT64 = 1, 7  # ONNX's numbers of the types


def translations(decomposed: bool) -> dict[Any, Callable[..., Any]]:
    """Returns the translations that ``torch.onnx.export`` needs for the operators.

    Args:
        decomposed: writes gathers instead of ``DeformConv`` and ``GridSample``.
    """
    nodes = (gathered_deform_conv2d, gathered_flow_warp) if decomposed else (deform_conv2d, flow_warp)
    return dict(zip((torch.ops.vsr.deform_conv2d.default, torch.ops.vsr.flow_warp.default), nodes, strict=True))


def deform_conv2d(
    input: Any, offset: Any, weight: Any, bias: Any, mask: Any, stride: Any, padding: Any, dilation: Any
) -> Any:
    """Writes ``DeformConv``."""
    kernel = list(weight.shape[2:])
    settings = {"kernel_shape": kernel, "strides": stride, "pads": [*padding, *padding], "dilations": dilation}
    settings |= {"group": input.shape[1] // weight.shape[1]}
    settings |= {"offset_group": offset.shape[1] // (2 * kernel[0] * kernel[1])}
    nodes: Any = opset19
    return nodes.DeformConv(input, weight, offset, bias, mask, **settings)


def flow_warp(x: Any, flow: Any, border: bool) -> Any:
    """Writes ``GridSample``, whose coordinates go from -1 to 1."""
    coordinates = []
    for position, side in zip(positions(flow), sides(x), strict=True):
        last = op.Max(op.Cast(side, to=FLOAT) - number(1.0), number(1.0))
        coordinates.append(op.Unsqueeze(position * (number(2.0) / last) - number(1.0), numbers(-1)))
    grid = op.Concat(*reversed(coordinates), axis=-1)
    return op.GridSample(x, grid, align_corners=1, mode="bilinear", padding_mode="border" if border else "zeros")


def gathered_flow_warp(x: Any, flow: Any, border: bool) -> Any:
    """Writes the warp as four gathers."""
    n, c = x.shape[:2]
    y, x_ = positions(flow)
    if border:
        y, x_ = (clamped(value, side) for value, side in zip((y, x_), sides(x), strict=True))
    points = (op.Reshape(value, numbers(n, -1)) for value in (y, x_))
    samples = gathered(op.Reshape(x, numbers(n, c, -1)), sides(x), *points)
    return op.Reshape(samples, op.Shape(x))


def gathered_deform_conv2d(
    input: Any, offset: Any, weight: Any, bias: Any, mask: Any, stride: Any, padding: Any, dilation: Any
) -> Any:
    """Writes the deformable convolution as four gathers and a product of matrices."""
    (n, c), (num_out, per_group, kh, kw) = input.shape[:2], weight.shape
    taps, groups = kh * kw, c // per_group
    g = offset.shape[1] // (2 * taps)
    size = op.Shape(offset, start=2)
    moved = op.Reshape(offset, op.Concat(numbers(n * g, taps, 2), size, axis=0))
    points = []
    for axis in (0, 1):
        tap = [k // kw if axis == 0 else k % kw for k in range(taps)]
        start = [float(index * dilation[axis] - padding[axis]) for index in tap]
        first = op.Reshape(op.Constant(value_floats=start), numbers(taps, 1, 1))
        grid = first + along(op.Gather(size, numbers(axis)), axis) * number(float(stride[axis]))
        position = grid + op.Gather(moved, op.Constant(value_int=axis), axis=2)
        points.append(op.Reshape(position, numbers(n * g, -1)))
    samples = gathered(op.Reshape(input, numbers(n * g, c // g, -1)), sides(input), *points)
    if mask is not None:
        samples = samples * op.Reshape(mask, numbers(n * g, 1, -1))
    columns = op.Reshape(samples, numbers(n, groups, c // groups * taps, -1))
    rows = op.Reshape(weight, numbers(groups, num_out // groups, per_group * taps))
    output = op.Reshape(op.MatMul(rows, columns), op.Concat(numbers(n, num_out), size, axis=0))
    return output if bias is None else output + op.Reshape(bias, numbers(1, -1, 1, 1))


def gathered(image: Any, size: Sequence[Any], y: Any, x: Any) -> Any:
    """Writes bilinear samples (n, c, p) of an image (n, c, h·w) at y and x, both (n, p); outside it is 0."""
    shape = op.Concat(op.Shape(image, end=2), op.Shape(y, start=1), axis=0)
    top, left = op.Floor(y), op.Floor(x)
    total = None
    for down in (0, 1):
        for right in (0, 1):
            corner = top + number(float(down)), left + number(float(right))
            inside = [clamped(value, side) for value, side in zip(corner, size, strict=True)]
            row, column = (op.Cast(value, to=INT64) for value in inside)
            index = op.Expand(op.Unsqueeze(row * size[1] + column, numbers(1)), shape)
            weight = number(1.0)
            for at, cell, pixel in zip((y, x), corner, inside, strict=True):
                near = number(1.0) - op.Abs(at - cell)
                weight = weight * near * op.Cast(op.Equal(cell, pixel), to=FLOAT)
            part = op.GatherElements(image, index, axis=2) * op.Unsqueeze(weight, numbers(1))
            total = part if total is None else total + part
    return total


def positions(flow: Any) -> tuple[Any, Any]:
    """Writes y and x of each pixel plus its flow (n, 2, h, w), both (n, h, w)."""
    moved = [op.Gather(flow, op.Constant(value_int=channel), axis=1) for channel in (1, 0)]
    y, x = (along(side, axis) + flow for axis, (side, flow) in enumerate(zip(sides(flow), moved, strict=True)))
    return y, x


def along(side: Any, axis: int) -> Any:
    """Writes 0, 1, …, side - 1 as floats: (side, 1) along the rows (0), (side,) along the columns (1)."""
    zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
    values = op.Cast(op.Range(zero, op.Squeeze(side), one), to=FLOAT)
    return op.Unsqueeze(values, numbers(1)) if axis == 0 else values


def clamped(value: Any, side: Any) -> Any:
    """Writes coordinates moved into 0, …, side - 1."""
    last = op.Squeeze(op.Cast(side, to=FLOAT)) - number(1.0)
    return op.Min(op.Max(value, number(0.0)), last)


def sides(x: Any) -> tuple[Any, Any]:
    """Writes height and width of (n, c, h, w), of one element each."""
    return op.Shape(x, start=2, end=3), op.Shape(x, start=3, end=4)


def number(value: float) -> Any:
    """Writes a float."""
    return op.Constant(value_float=value)


def numbers(*values: int) -> Any:
    """Writes whole numbers, (n,)."""
    return op.Constant(value_ints=list(values))
