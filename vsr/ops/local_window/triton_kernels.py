"""The Triton kernels of the local window read; ``triton.py`` launches them.

A program computes a tile of BY × BX positions (BM in all) of one image and keeps their features in registers in
float32. It loops over the candidates, whose features neighbouring positions share in the L1 cache, and stores only
results. A position is a candidate of exactly the positions in the window around it, so the gradients of keys and values
are gathered too, without atomics.

All tensors are contiguous with channels innermost: the query is (b, H, W, C), keys are (b, T, H, W, C), values and the
read have E channels, log_sum and delta are (b, H, W). CP and EP are C and E padded to powers of two, which Triton
requires.
"""

import triton
import triton.language as tl

# ruff: noqa: N803, ANN001, ANN201, ANN202  (constants are in capitals; kernel arguments have no types)


@triton.jit
def _tile(H, W, BY: tl.constexpr, BX: tl.constexpr):
    """Returns the rows and columns of the program's positions, and which of them are inside the frame."""
    m = tl.arange(0, BY * BX)
    across = tl.cdiv(W, BX)
    row, column = tl.program_id(0) // across * BY + m // BX, tl.program_id(0) % across * BX + m % BX
    return row, column, (row < H) & (column < W)


@triton.jit
def _candidate(row, column, n, H, W, use, WINDOW: tl.constexpr):
    """Returns the place of candidate n in a frame, and whether it is inside."""
    row, column = row + n // WINDOW - WINDOW // 2, column + n % WINDOW - WINDOW // 2
    return row * W + column, use & (row >= 0) & (row < H) & (column >= 0) & (column < W)


@triton.jit
def _usable(inside, row, H, flag):
    """Returns which positions are inside a valid frame; ``flag`` points to the frame's flag, 0 if it is invalid.

    The flag is broadcast before the comparison: Triton 3.9's interpreter cannot broadcast a single bit.
    """
    return inside & (row * 0 + tl.load(flag) != 0)


@triton.jit
def _features(frame, place, inside, C: tl.constexpr, CP: tl.constexpr):
    """Loads the features at places of a frame: (BM, CP) in float32, 0 outside."""
    c = tl.arange(0, CP)
    at = frame + place[:, None] * C + c[None, :]
    return tl.load(at, mask=inside[:, None] & (c < C)[None, :], other=0.0).to(tl.float32)


@triton.jit
def _store(frame, place, inside, value, C: tl.constexpr, CP: tl.constexpr):
    c = tl.arange(0, CP)
    at = frame + place[:, None] * C + c[None, :]
    tl.store(at, value.to(frame.dtype.element_ty), mask=inside[:, None] & (c < C)[None, :])


@triton.jit
def read_kernel(query, keys, values, valid, read, log_sum, H, W, T: tl.constexpr, C: tl.constexpr, CP: tl.constexpr,
                E: tl.constexpr, EP: tl.constexpr, WINDOW: tl.constexpr, READS_KEYS: tl.constexpr,
                HAS_VALID: tl.constexpr, BY: tl.constexpr, BX: tl.constexpr):  # fmt: skip
    """Computes read and log_sum."""
    b = tl.program_id(1).to(tl.int64)
    row, column, inside = _tile(H, W, BY, BX)
    here = row * W + column
    q = _features(query + b * H * W * C, here, inside, C, CP)
    largest = tl.full([BY * BX], -3.0e38, tl.float32)  # finite, because infinity minus infinity is NaN
    total = tl.zeros([BY * BX], tl.float32)
    sums = tl.zeros([BY * BX, EP], tl.float32)
    for t in range(T):
        frame = (b * T + t) * H * W
        use = inside
        if HAS_VALID:
            use = _usable(inside, row, H, valid + b * T + t)
        for n in range(WINDOW * WINDOW):
            there, allowed = _candidate(row, column, n, H, W, use, WINDOW)
            k = _features(keys + frame * C, there, allowed, C, CP)
            v = k
            if not READS_KEYS:
                v = _features(values + frame * E, there, allowed, E, EP)
            score = tl.where(allowed, tl.sum(q * k, axis=1), float("-inf"))
            before = largest
            largest = tl.maximum(before, score)
            scale, weight = tl.exp(before - largest), tl.exp(score - largest)
            total = total * scale + weight
            sums = sums * scale[:, None] + weight[:, None] * v
    nothing = total == 0
    sums = sums * tl.where(nothing, 0.0, 1.0 / total)[:, None]
    _store(read + b * H * W * E, here, inside, sums, E, EP)
    tl.store(log_sum + b * H * W + here, tl.where(nothing, float("inf"), largest + tl.log(total)), mask=inside)


@triton.jit
def query_gradient_kernel(grad_read, query, keys, values, valid, log_sum, delta, grad_query, H, W, T: tl.constexpr,
                          C: tl.constexpr, CP: tl.constexpr, E: tl.constexpr, EP: tl.constexpr,
                          WINDOW: tl.constexpr, READS_KEYS: tl.constexpr, HAS_VALID: tl.constexpr,
                          BY: tl.constexpr, BX: tl.constexpr):  # fmt: skip
    """Computes grad_query."""
    b = tl.program_id(1).to(tl.int64)
    row, column, inside = _tile(H, W, BY, BX)
    here = row * W + column
    q = _features(query + b * H * W * C, here, inside, C, CP)
    g = _features(grad_read + b * H * W * E, here, inside, E, EP)
    sum_here = tl.load(log_sum + b * H * W + here, mask=inside, other=float("inf"))
    delta_here = tl.load(delta + b * H * W + here, mask=inside, other=0.0)
    sums = tl.zeros([BY * BX, CP], tl.float32)
    for t in range(T):
        frame = (b * T + t) * H * W
        use = inside
        if HAS_VALID:
            use = _usable(inside, row, H, valid + b * T + t)
        for n in range(WINDOW * WINDOW):
            there, allowed = _candidate(row, column, n, H, W, use, WINDOW)
            k = _features(keys + frame * C, there, allowed, C, CP)
            v = k
            if not READS_KEYS:
                v = _features(values + frame * E, there, allowed, E, EP)
            weight = tl.where(allowed, tl.exp(tl.sum(q * k, axis=1) - sum_here), 0.0)
            sums += (weight * (tl.sum(g * v, axis=1) - delta_here))[:, None] * k
    _store(grad_query + b * H * W * C, here, inside, sums, C, CP)


@triton.jit
def frame_gradients_kernel(grad_read, query, keys, values, valid, log_sum, delta, grad_keys, grad_values, H, W,
                           T: tl.constexpr, C: tl.constexpr, CP: tl.constexpr, E: tl.constexpr, EP: tl.constexpr,
                           WINDOW: tl.constexpr, READS_KEYS: tl.constexpr, HAS_VALID: tl.constexpr,
                           NEED_KEYS: tl.constexpr, NEED_VALUES: tl.constexpr, BY: tl.constexpr,
                           BX: tl.constexpr):  # fmt: skip
    """Computes grad_keys and grad_values."""
    image = tl.program_id(1).to(tl.int64)  # b * T + t
    b = image // T
    row, column, inside = _tile(H, W, BY, BX)
    here = row * W + column
    use = inside
    if HAS_VALID:
        use = _usable(inside, row, H, valid + image)
    k = _features(keys + image * H * W * C, here, use, C, CP)
    v = k
    if not READS_KEYS:
        v = _features(values + image * H * W * E, here, use, E, EP)
    key_sums = tl.zeros([BY * BX, CP], tl.float32)
    value_sums = tl.zeros([BY * BX, EP], tl.float32)
    for n in range(WINDOW * WINDOW):
        there, allowed = _candidate(row, column, n, H, W, use, WINDOW)
        q = _features(query + b * H * W * C, there, allowed, C, CP)
        g = _features(grad_read + b * H * W * E, there, allowed, E, EP)
        sum_there = tl.load(log_sum + b * H * W + there, mask=allowed, other=float("inf"))
        weight = tl.where(allowed, tl.exp(tl.sum(k * q, axis=1) - sum_there), 0.0)
        if NEED_KEYS:
            delta_there = tl.load(delta + b * H * W + there, mask=allowed, other=0.0)
            key_sums += (weight * (tl.sum(v * g, axis=1) - delta_there))[:, None] * q
            if READS_KEYS:
                key_sums += weight[:, None] * g
        if NEED_VALUES:
            value_sums += weight[:, None] * g
    if NEED_KEYS:
        _store(grad_keys + image * H * W * C, here, inside, key_sums, C, CP)
    if NEED_VALUES:
        _store(grad_values + image * H * W * E, here, inside, value_sums, E, EP)
