"""Backward warping by a flow: the operator ``vsr::flow_warp`` and the public function.

The kernels are in ``csrc/flow_warp``, ``triton.py`` and ``reference.py``; ``backend.py`` selects among them.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from vsr.ops import backend
from vsr.ops.flow_warp import reference
from vsr.ops.tensors import check_float, check_tensors, exporting, layout_of

_library = torch.library.Library("vsr", "FRAGMENT")
backend.define(_library, "flow_warp(Tensor x, Tensor flow, bool border) -> Tensor")
# Returns the gradients of x and flow; those not `needed` are empty.
backend.define(
    _library, "flow_warp_backward(Tensor grad, Tensor x, Tensor flow, bool border, bool[2] needed) -> (Tensor, Tensor)"
)


def flow_warp(x: Tensor, flow: Tensor, padding: Literal["zeros", "border"] = "zeros") -> Tensor:
    """Returns ``x`` sampled bilinearly where the flow leads: output (i, j) is ``x`` at (i + flow_y, j + flow_x).

    A zero flow copies ``x`` exactly. Coordinates and weights are computed in float32, in float64 for a float64 ``x``;
    half-precision features are sampled and summed in float32 and rounded once. Autocast has no effect.

    Args:
        x: (n, c, h, w), float32, float64, float16 or bfloat16.
        flow: (n, 2, h, w), in pixels; channel 0 points right, channel 1 down. Prefer float32 with half-precision ``x``.
        padding: outside the frame ``x`` is 0 (``zeros``), or the nearest pixel of its border (``border``).

    Returns:
        (n, c, h, w), same dtype as ``x``; channels_last if ``x`` is. It is differentiable once, by ``x`` and ``flow``,
        and its gradients do not depend on timing. Where ``border`` moved a coordinate, the flow has no gradient. A flow
        that is not a number gives NaN.

    Raises:
        ValueError: a rank, size, dtype, device or ``padding`` is wrong, or ``VSR_OPS`` forces a back end that cannot
            run here.
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
    if not (x.is_meta or exporting()) and backend.use_reference("flow_warp", x, [math.prod(x.shape[1:])]):
        return reference.flow_warp(x, flow, padding == "border")
    return torch.ops.vsr.flow_warp(x, flow, padding == "border")


@torch.library.register_fake("vsr::flow_warp", lib=_library)
def _fake(x: Tensor, flow: Tensor, border: bool) -> Tensor:
    return torch.empty_like(x, memory_format=layout_of(x))


@torch.library.register_fake("vsr::flow_warp_backward", lib=_library)
def _fake_backward(grad: Tensor, x: Tensor, flow: Tensor, border: bool, needed: list[bool]) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(x, memory_format=layout_of(x)) if needed[0] else x.new_empty(0),
        torch.empty_like(flow, memory_format=torch.contiguous_format) if needed[1] else x.new_empty(0),
    )


def _save_for_backward(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, flow, ctx.border = inputs
    ctx.save_for_backward(x, flow)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():  # without this error, second derivatives would silently be missing
        raise RuntimeError("flow_warp is differentiable once")
    needed = list(ctx.needs_input_grad[:2])
    computed = torch.ops.vsr.flow_warp_backward(grad, *ctx.saved_tensors, ctx.border, needed)
    return *(gradient if wanted else None for gradient, wanted in zip(computed, needed, strict=True)), None


torch.library.register_autograd("vsr::flow_warp", _backward, setup_context=_save_for_backward, lib=_library)
backend.use_triton("flow_warp", "vsr.ops.flow_warp.triton", _library)
