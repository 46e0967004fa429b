"""The Triton kernels of the warp; ``triton.py`` launches them.

A program computes BM positions of one image and loops over blocks of BC channels. Features are contiguous with channels
innermost, (n, P, C) with P = H · W positions; the flow is (n, 2, P) in float32. Corners outside the frame are not read.
"""

import triton
import triton.language as tl

# ruff: noqa: N803, ANN001, ANN201, ANN202  (constants are in capitals; kernel arguments have no types)


@triton.jit
def _place(coordinate, size, BORDER: tl.constexpr):
    """Returns the corner before a coordinate, the distance from it, and 0 where it was moved, otherwise 1."""
    slope = tl.full(coordinate.shape, 1.0, tl.float32)
    if BORDER:
        free = (coordinate > 0) & (coordinate < size - 1)
        slope = tl.where(free, 1.0, 0.0)
        coordinate = tl.where(free, coordinate, tl.minimum(tl.maximum(coordinate, 0.0), size - 1.0))
    near = (coordinate >= -1) & (coordinate <= size)
    slope = tl.where(near, slope, 0.0)
    coordinate = tl.where(near, coordinate, -1.0)
    corner = tl.floor(coordinate)
    return corner.to(tl.int32), coordinate - corner, slope


@triton.jit
def _positions(flow, p, H, W, P, inside, BORDER: tl.constexpr):
    """Returns the top left corner of each position, the distances from it, and the slopes; see _place."""
    x = (p % W).to(tl.float32) + tl.load(flow + p, mask=inside, other=0.0)
    y = (p // W).to(tl.float32) + tl.load(flow + P + p, mask=inside, other=0.0)
    is_number = (x == x) & (y == y)
    left, dx, slope_x = _place(x, W, BORDER)
    top, dy, slope_y = _place(y, H, BORDER)
    nan = float("nan")
    return left, top, tl.where(is_number, dx, nan), tl.where(is_number, dy, nan), slope_x, slope_y


@triton.jit
def _corner(left, top, dx, dy, H, W, inside, K: tl.constexpr):
    """Returns the index of corner K (top left, top right, bottom left, bottom right), its weight, and if it exists."""
    row, column = top + K // 2, left + K % 2
    exists = inside & (row >= 0) & (row < H) & (column >= 0) & (column < W)
    along_x = dx if K % 2 else 1 - dx
    along_y = dy if K // 2 else 1 - dy
    return row * W + column, along_x * along_y, exists


@triton.jit
def warp_kernel(x, flow, output, H, W, P, C: tl.constexpr, BORDER: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr):
    """Computes the warped features."""
    n = tl.program_id(1).to(tl.int64)
    p = tl.program_id(0) * BM + tl.arange(0, BM)
    inside = p < P
    left, top, dx, dy, _, _ = _positions(flow + n * 2 * P, p, H, W, P, inside, BORDER)
    for first in tl.static_range(0, C, BC):
        c = first + tl.arange(0, BC)
        total = tl.zeros([BM, BC], tl.float32)
        for k in tl.static_range(4):
            index, weight, exists = _corner(left, top, dx, dy, H, W, inside, k)
            at = x + n * P * C + index[:, None] * C + c[None, :]
            value = tl.load(at, mask=exists[:, None] & (c < C)[None, :], other=0.0).to(tl.float32)
            total += value * weight[:, None]
        to = output + n * P * C + p[:, None] * C + c[None, :]
        tl.store(to, total.to(output.dtype.element_ty), mask=inside[:, None] & (c < C)[None, :])


@triton.jit
def gradients_kernel(grad, x, flow, scale, grad_x, grad_flow, H, W, P, C: tl.constexpr, BORDER: tl.constexpr,
                     BM: tl.constexpr, BC: tl.constexpr, NEED_X: tl.constexpr, NEED_FLOW: tl.constexpr):  # fmt: skip
    """Adds to the gradient of x in fixed point, whose sum depends on no order, and computes that of the flow."""
    n = tl.program_id(1).to(tl.int64)
    p = tl.program_id(0) * BM + tl.arange(0, BM)
    inside = p < P
    left, top, dx, dy, slope_x, slope_y = _positions(flow + n * 2 * P, p, H, W, P, inside, BORDER)
    along_x = tl.zeros([BM], tl.float32)
    along_y = tl.zeros([BM], tl.float32)
    for first in tl.static_range(0, C, BC):
        c = first + tl.arange(0, BC)
        channels = (c < C)[None, :]
        at = grad + n * P * C + p[:, None] * C + c[None, :]
        g = tl.load(at, mask=inside[:, None] & channels, other=0.0).to(tl.float32)
        for k in tl.static_range(4):
            index, weight, exists = _corner(left, top, dx, dy, H, W, inside, k)
            place = n * P * C + index[:, None] * C + c[None, :]
            if NEED_X:
                share = (g * weight[:, None]).to(tl.float64) * tl.load(scale)
                tl.atomic_add(grad_x + place, share.to(tl.int64), mask=exists[:, None] & channels, sem="relaxed")
            if NEED_FLOW:
                value = tl.load(x + place, mask=exists[:, None] & channels, other=0.0).to(tl.float32)
                dot = tl.sum(g * value, 1)
                along_x += (dot if k % 2 else -dot) * (dy if k // 2 else 1 - dy)
                along_y += (dot if k // 2 else -dot) * (dx if k % 2 else 1 - dx)
    if NEED_FLOW:
        to = grad_flow + n * 2 * P + p
        tl.store(to, along_x * slope_x, mask=inside)
        tl.store(to + P, along_y * slope_y, mask=inside)
