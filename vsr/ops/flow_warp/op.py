"""Backward warping by a flow: the public function."""

from typing import Literal

from torch import Tensor

from vsr.ops.flow_warp import reference
from vsr.ops.tensors import check_float, check_tensors


def flow_warp(x: Tensor, flow: Tensor, padding: Literal["zeros", "border"] = "zeros") -> Tensor:
    """Returns ``x`` sampled bilinearly where the flow leads: output (i, j) is ``x`` at (i + flow_y, j + flow_x).

    A zero flow copies ``x`` exactly. Coordinates and weights are computed in float32, in float64 for a float64 ``x``;
    half-precision features are sampled and summed in float32 and rounded once. Autocast has no effect.

    Args:
        x: (n, c, h, w), float32, float64, float16 or bfloat16.
        flow: (n, 2, h, w), in pixels; channel 0 points right, channel 1 down. Prefer float32 with half-precision ``x``.
        padding: outside the frame ``x`` is 0 (``zeros``), or the nearest pixel of its border (``border``).

    Returns:
        (n, c, h, w), same dtype as ``x``; channels_last if ``x`` is. It is differentiable once, by ``x`` and ``flow``.
        Where ``border`` moved a coordinate, the flow has no gradient. A flow that is not a number gives NaN.

    Raises:
        ValueError: a rank, size, dtype, device or ``padding`` is wrong.
    """
    check_tensors({"x": x, "flow": flow}, {})
    for name, value in (("x", x), ("flow", flow)):
        check_float(name, value)
    if x.dim() != 4:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (n, c, h, w)")
    expected = (x.shape[0], 2, *x.shape[2:])
    if flow.shape != expected:
        raise ValueError(f"flow has shape {tuple(flow.shape)}; expected {tuple(expected)}, (x, y) for each pixel of x")
    if padding not in ("zeros", "border"):
        raise ValueError(f"padding is {padding!r}; expected 'zeros' or 'border'")
    return reference.flow_warp(x, flow, padding == "border")
