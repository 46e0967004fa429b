"""The Triton kernels of the deformable convolution; ``triton.py`` launches them.

A program computes a block of BM positions of one image. For each tap, it gathers the columns of all groups in registers
and multiplies them by the tap's weight on the tensor cores. No columns are stored. Offsets and masks are read once per
group and may have any strides. Features are channels_last.

C, CO and DG are channels, outputs and deformable groups; G, GP and OP are groups, channels per group and outputs,
padded to powers of two, as Triton's shapes must be. P = ho * wo positions. o_*, m_*, go_* and gm_* are strides of
offset, mask and their gradients, over images, channels and positions.
"""

import triton
import triton.language as tl

# ruff: noqa: N803, N806, ANN001, ANN201, ANN202  (constants are in capitals; kernel arguments have no types)


@triton.jit
def _points(offset, base, stride_c, stride_p, m, inside_block, row, column, k, H, W, DG: tl.constexpr, KW: tl.constexpr,
            TAPS: tl.constexpr, DIL_H, DIL_W, G: tl.constexpr):  # fmt: skip
    """Returns the upper left pixel and the fractions at which a block of positions reads one tap: (BM, G) each."""
    g = tl.arange(0, G)
    where = inside_block[:, None] & (g < DG)[None, :]
    place = base + ((g * TAPS + k) * 2)[None, :] * stride_c + m[:, None] * stride_p
    offset_y = tl.load(offset + place, mask=where, other=0.0).to(tl.float32)
    offset_x = tl.load(offset + place + stride_c, mask=where, other=0.0).to(tl.float32)
    y = (row + k // KW * DIL_H).to(tl.float32)[:, None] + offset_y
    x = (column + k % KW * DIL_W).to(tl.float32)[:, None] + offset_x
    inside = (y >= -1) & (y < H) & (x >= -1) & (x < W) & where
    keep = inside | (y != y) | (x != x)  # a NaN coordinate makes the result NaN
    top, left = tl.floor(y), tl.floor(x)
    dy, dx = tl.where(keep, y - top, 0.0), tl.where(keep, x - left, 0.0)
    safe_top, safe_left = tl.where(inside, top, -2.0), tl.where(inside, left, -2.0)
    # At exactly -1 the value is 0 (not 0 times a pixel, which may be NaN); the derivative is the pixel.
    has_value = (y > -1) & (x > -1)
    return safe_top.to(tl.int32), safe_left.to(tl.int32), dy, dx, has_value, where


@triton.jit
def _corner(image, top, left, extra, H, W, C: tl.constexpr, CG: tl.constexpr, G: tl.constexpr, GP: tl.constexpr):
    """Returns the addresses (BM, G, GP) of the pixel at (top, left) in ``image``, and which of them exist."""
    g, c = tl.arange(0, G), tl.arange(0, GP)
    exists = (top >= 0) & (top < H) & (left >= 0) & (left < W) & extra
    place = ((top * W + left) * C)[:, :, None] + (g * CG)[None, :, None] + c[None, None, :]
    return image + place, exists[:, :, None] & (c < CG)[None, None, :]


@triton.jit
def _columns(image, top, left, dy, dx, has_value, factor, H, W, C: tl.constexpr, CG: tl.constexpr, G: tl.constexpr,
             GP: tl.constexpr):  # fmt: skip
    """Returns the sampled channels of a block of positions for one tap: (BM, G, GP) in float32."""
    total = tl.zeros([dy.shape[0], G, GP], tl.float32)
    for i in tl.static_range(4):
        weight = (dy if i // 2 == 1 else 1 - dy) * (dx if i % 2 == 1 else 1 - dx) * factor
        at, exists = _corner(image, top + i // 2, left + i % 2, has_value, H, W, C, CG, G, GP)
        total += tl.load(at, mask=exists, other=0.0).to(tl.float32) * weight[:, :, None]
    return total


@triton.jit
def _factors(mask, base, stride_c, stride_p, m, where, k, TAPS: tl.constexpr, G: tl.constexpr, HAS_MASK: tl.constexpr):
    """Returns the modulation of a block of positions for one tap: (BM, G)."""
    g = tl.arange(0, G)
    if HAS_MASK:
        place = base + (g * TAPS + k)[None, :] * stride_c + m[:, None] * stride_p
        return tl.load(mask + place, mask=where, other=0.0).to(tl.float32)
    return tl.full([m.shape[0], G], 1.0, tl.float32)


@triton.jit
def forward_kernel(x, offset, mask, weight, bias, y, H, W, WO, P, o_n, o_c, o_p, m_n, m_c, m_p, SH, SW, PH, PW, DH, DW,
                   C: tl.constexpr, CO: tl.constexpr, DG: tl.constexpr, KW: tl.constexpr, TAPS: tl.constexpr,
                   G: tl.constexpr, GP: tl.constexpr, OP: tl.constexpr, BM: tl.constexpr, HAS_MASK: tl.constexpr,
                   HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Computes y (n, P, CO) for BM positions of one image; weight is (TAPS, G·GP, OP)."""
    CG: tl.constexpr = C // DG
    n = tl.program_id(1).to(tl.int64)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    inside_block = m < P
    row, column = m // WO * SH - PH, m % WO * SW - PW
    channel, output = tl.arange(0, G * GP), tl.arange(0, OP)
    total = tl.zeros([BM, OP], tl.float32)
    for k in range(TAPS):
        top, left, dy, dx, has_value, where = _points(
            offset, n * o_n, o_c, o_p, m, inside_block, row, column, k, H, W, DG, KW, TAPS, DH, DW, G
        )
        factor = _factors(mask, n * m_n, m_c, m_p, m, where, k, TAPS, G, HAS_MASK)
        sampled = _columns(x + n * H * W * C, top, left, dy, dx, has_value, factor, H, W, C, CG, G, GP)
        columns = tl.reshape(sampled, (BM, G * GP)).to(weight.dtype.element_ty)
        tap = tl.load(weight + (k * G * GP + channel)[:, None] * OP + output[None, :])
        total = tl.dot(columns, tap, total, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias + output, mask=output < CO, other=0.0).to(tl.float32)[None, :]
    place = (n * P + m)[:, None] * CO + output[None, :]
    tl.store(y + place, total.to(y.dtype.element_ty), mask=inside_block[:, None] & (output < CO)[None, :])


@triton.jit
def data_gradients_kernel(grad_y, x, offset, mask, weight, scale, grad_x, grad_offset, grad_mask, H, W, WO, P, o_n, o_c,
                          o_p, m_n, m_c, m_p, go_n, go_c, go_p, gm_n, gm_c, gm_p, SH, SW, PH, PW, DH, DW,
                          C: tl.constexpr, CO: tl.constexpr, DG: tl.constexpr, KW: tl.constexpr, TAPS: tl.constexpr,
                          G: tl.constexpr, GP: tl.constexpr, OP: tl.constexpr, BM: tl.constexpr, HAS_MASK: tl.constexpr,
                          NEED_X: tl.constexpr, NEED_OFFSET: tl.constexpr, NEED_MASK: tl.constexpr,
                          FIXED: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Computes the gradients of offset and mask, and adds the input's; weight is (TAPS, OP, G·GP)."""
    CG: tl.constexpr = C // DG
    n = tl.program_id(1).to(tl.int64)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    inside_block = m < P
    row, column = m // WO * SH - PH, m % WO * SW - PW
    g, channel, output = tl.arange(0, G), tl.arange(0, G * GP), tl.arange(0, OP)
    gradient = tl.load(
        grad_y + (n * P + m)[:, None] * CO + output[None, :],
        mask=inside_block[:, None] & (output < CO)[None, :],
        other=0.0,
    )
    for k in range(TAPS):
        top, left, dy, dx, _, where = _points(
            offset, n * o_n, o_c, o_p, m, inside_block, row, column, k, H, W, DG, KW, TAPS, DH, DW, G
        )
        factor = _factors(mask, n * m_n, m_c, m_p, m, where, k, TAPS, G, HAS_MASK)
        tap = tl.load(weight + (k * OP + output)[:, None] * (G * GP) + channel[None, :])
        columns = tl.reshape(tl.dot(gradient, tap, input_precision=PRECISION), (BM, G, GP))
        by_mask = tl.zeros([BM, G], tl.float32)
        by_y, by_x = by_mask, by_mask
        for i in tl.static_range(4):
            weight_y, weight_x = dy if i // 2 == 1 else 1 - dy, dx if i % 2 == 1 else 1 - dx
            at, exists = _corner(x + n * H * W * C, top + i // 2, left + i % 2, where, H, W, C, CG, G, GP)
            value = tl.load(at, mask=exists, other=0.0).to(tl.float32)
            dot = tl.sum(columns * value, axis=2)
            by_mask += dot * weight_y * weight_x
            by_y += dot * weight_x * (1.0 if i // 2 == 1 else -1.0)
            by_x += dot * weight_y * (1.0 if i % 2 == 1 else -1.0)
            if NEED_X:
                to, _ = _corner(grad_x + n * H * W * C, top + i // 2, left + i % 2, where, H, W, C, CG, G, GP)
                share = columns * (weight_y * weight_x * factor)[:, :, None]
                if FIXED:
                    tl.atomic_add(to, (share.to(tl.float64) * tl.load(scale)).to(tl.int64), mask=exists, sem="relaxed")
                else:
                    tl.atomic_add(to, share, mask=exists, sem="relaxed")
        pair = g * TAPS + k
        if NEED_OFFSET:
            place = n * go_n + (2 * pair)[None, :] * go_c + m[:, None] * go_p
            tl.store(grad_offset + place, by_y * factor, mask=where)
            tl.store(grad_offset + place + go_c, by_x * factor, mask=where)
        if NEED_MASK:
            tl.store(grad_mask + n * gm_n + pair[None, :] * gm_c + m[:, None] * gm_p, by_mask, mask=where)


@triton.jit
def weight_gradient_kernel(grad_y, x, offset, mask, parts, blocks, N, H, W, WO, P, o_n, o_c, o_p, m_n, m_c, m_p,
                           SH, SW, PH, PW, DH, DW, C: tl.constexpr, CO: tl.constexpr, DG: tl.constexpr,
                           KW: tl.constexpr, TAPS: tl.constexpr, G: tl.constexpr, GP: tl.constexpr, OP: tl.constexpr,
                           BM: tl.constexpr, SPLITS: tl.constexpr, HAS_MASK: tl.constexpr,
                           PRECISION: tl.constexpr):  # fmt: skip
    """Computes the weight's gradient of one tap over every SPLITS-th block: parts (SPLITS, TAPS, G·GP, OP)."""
    CG: tl.constexpr = C // DG
    k, split = tl.program_id(0), tl.program_id(1)
    channel, output = tl.arange(0, G * GP), tl.arange(0, OP)
    total = tl.zeros([G * GP, OP], tl.float32)
    block = split
    while block < N * blocks:  # the interpreter does not support range(split, …)
        n = (block // blocks).to(tl.int64)
        m = block % blocks * BM + tl.arange(0, BM)
        inside_block = m < P
        row, column = m // WO * SH - PH, m % WO * SW - PW
        top, left, dy, dx, has_value, where = _points(
            offset, n * o_n, o_c, o_p, m, inside_block, row, column, k, H, W, DG, KW, TAPS, DH, DW, G
        )
        factor = _factors(mask, n * m_n, m_c, m_p, m, where, k, TAPS, G, HAS_MASK)
        sampled = _columns(x + n * H * W * C, top, left, dy, dx, has_value, factor, H, W, C, CG, G, GP)
        columns = tl.reshape(sampled, (BM, G * GP)).to(grad_y.dtype.element_ty)
        place = (n * P + m)[:, None] * CO + output[None, :]
        gradient = tl.load(grad_y + place, mask=inside_block[:, None] & (output < CO)[None, :], other=0.0)
        total = tl.dot(tl.trans(columns), gradient, total, input_precision=PRECISION)
        block += SPLITS
    place = ((split * TAPS + k) * G * GP + channel)[:, None] * OP + output[None, :]
    tl.store(parts + place, total)
