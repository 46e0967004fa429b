"""Modulated deformable convolution: the operator ``vsr::deform_conv2d`` and the public function.

The schemas below are the contract of all kernels. This file registers the rules for fake tensors and autograd; the
function casts under autocast. The kernels are in ``csrc/dcn``, ``triton.py`` and ``reference.py``; ``backend.py``
selects among them.
"""

from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vsr.ops import backend
from vsr.ops.deform_conv import reference
from vsr.ops.deform_conv.checks import Pair, check_arguments, extents, output_size, pair
from vsr.ops.tensors import check_tensors, exporting, layout_of

_library = torch.library.Library("vsr", "FRAGMENT")
backend.define(
    _library,
    "deform_conv2d(Tensor input, Tensor offset, Tensor weight, Tensor? bias, Tensor? mask, "
    "int[2] stride, int[2] padding, int[2] dilation) -> Tensor",
)
# Returns the gradients of input, offset, weight and mask; those not `needed` are empty. The bias gradient is a sum.
backend.define(
    _library,
    "deform_conv2d_backward(Tensor grad_output, Tensor input, Tensor offset, Tensor weight, Tensor? mask, "
    "int[2] stride, int[2] padding, int[2] dilation, bool[4] needed, bool deterministic) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
)


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Returns the deformable convolution of ``input``, modulated if ``mask`` is given.

    Output (y, x) of channel o is ``bias[o]`` plus the sum over channels c and taps k of
    ``weight[o, c, k] * mask[k] * input[c]`` sampled bilinearly at
    ``(y * stride - padding + tap_y * dilation + offset_y[k], …x)``; outside the frame the input is 0.

    Args:
        input: (n, c, h, w), float32, float64, float16 or bfloat16.
        offset: (n, 2·g·kh·kw, ho, wo), in pixels; the channels are (group, tap, (y, x)). Prefer float32 with a
            half-precision input: coordinates are computed in float32 at least.
        weight: (co, c / groups, kh, kw), same dtype as the input.
        bias: (co,).
        stride: (vertical, horizontal), or one number for both, as for ``padding`` and ``dilation``.
        padding: zero padding in pixels.
        dilation: spacing of the taps in pixels.
        mask: (n, g·kh·kw, ho, wo), the factor of each sample. Default: 1.

    Returns:
        (n, co, ho, wo), same dtype as the input; channels_last if the input is.

    Raises:
        ValueError: a rank, size, dtype or device is wrong, or ``VSR_OPS`` forces a back end that cannot run here.

    Reference:
        X. Zhu, H. Hu, S. Lin, J. Dai, "Deformable ConvNets v2: More Deformable, Better Results", CVPR 2019, equation 1.
        https://arxiv.org/abs/1811.11168
    """
    check_tensors({"input": input, "offset": offset, "weight": weight}, {"bias": bias, "mask": mask})
    geometry = pair("stride", stride, 1), pair("padding", padding, 0), pair("dilation", dilation, 1)
    device_type = input.device.type
    is_autocast = not input.is_meta and torch.is_autocast_enabled(device_type)
    if is_autocast:
        input, weight, bias = _autocast(input, weight, bias, device_type)
    check_arguments(input, offset, weight, bias, mask, *geometry)
    sizes = [size for x in (input, offset, offset if mask is None else mask) for size in extents(x)]
    if not (input.is_meta or exporting()) and backend.use_reference("deform_conv2d", input, sizes):
        with torch.autocast(device_type, enabled=False) if is_autocast else nullcontext():
            return reference.deform_conv2d(input, offset, weight, bias, mask, *geometry)
    return torch.ops.vsr.deform_conv2d(input, offset, weight, bias, mask, *geometry)


def _autocast(
    input: Tensor, weight: Tensor, bias: Tensor | None, device_type: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Casts features and weights to the autocast dtype; float64 is left unchanged. Offsets and masks are never cast.

    With offsets of 17 pixels, bfloat16 offsets cause an output error of 4 %, bfloat16 features one of 0.2 %.
    """
    dtype = torch.get_autocast_dtype(device_type)

    def cast(x: Tensor) -> Tensor:
        return x if x.dtype == torch.float64 else x.to(dtype)

    return cast(input), cast(weight), None if bias is None else cast(bias)


def _autocast_rule(
    device_type: str, input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
) -> Tensor:
    """The autocast rule of a direct call of the operator."""
    key = getattr(torch._C.DispatchKey, f"Autocast{device_type.upper()}")
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(key)):
        input, weight, bias = _autocast(input, weight, bias, device_type)
        return torch.ops.vsr.deform_conv2d(input, offset, weight, bias, *rest)


_library.impl("deform_conv2d", partial(_autocast_rule, "cpu"), "AutocastCPU")
_library.impl("deform_conv2d", partial(_autocast_rule, "cuda"), "AutocastCUDA")


@torch.library.register_fake("vsr::deform_conv2d", lib=_library)
def _fake(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None, *geometry: list[int]
) -> Tensor:
    size = (input.shape[0], weight.shape[0], *output_size(input, weight, *geometry))
    return torch.empty(size, dtype=input.dtype, device=input.device, memory_format=layout_of(input))


@torch.library.register_fake("vsr::deform_conv2d_backward", lib=_library)
def _fake_backward(
    grad_output: Tensor, input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, *options: Any
) -> tuple[Tensor, ...]:
    *_, needed, _ = options
    return (
        torch.empty_like(input, memory_format=layout_of(input)) if needed[0] else input.new_empty(0),
        torch.empty_like(offset, memory_format=layout_of(offset)) if needed[1] else offset.new_empty(0),
        torch.empty_like(weight, memory_format=torch.contiguous_format) if needed[2] else weight.new_empty(0),
        offset.new_empty(0) if mask is None or not needed[3] else torch.empty_like(mask, memory_format=layout_of(mask)),
    )


def _save_for_backward(ctx: Any, inputs: tuple, output: Tensor) -> None:
    input, offset, weight, _, mask, *ctx.geometry = inputs
    ctx.save_for_backward(input, offset, weight, mask)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():  # without this error, second derivatives would silently be missing
        raise RuntimeError("deform_conv2d is differentiable once; VSR_OPS=reference supports higher derivatives")
    for_input, for_offset, for_weight, for_bias, for_mask, *_ = ctx.needs_input_grad
    needed = [for_input, for_offset, for_weight, for_mask]
    gradients: list[Tensor | None] = [None] * 4
    if any(needed):
        is_deterministic = torch.are_deterministic_algorithms_enabled()
        computed = torch.ops.vsr.deform_conv2d_backward(
            grad_output, *ctx.saved_tensors, *ctx.geometry, needed, is_deterministic
        )
        gradients = [gradient if wanted else None for gradient, wanted in zip(computed, needed, strict=True)]
    grad_input, grad_offset, grad_weight, grad_mask = gradients
    grad_bias = grad_output.sum((0, 2, 3)) if for_bias else None
    return grad_input, grad_offset, grad_weight, grad_bias, grad_mask, None, None, None


torch.library.register_autograd("vsr::deform_conv2d", _backward, setup_context=_save_for_backward, lib=_library)
backend.use_triton("deform_conv2d", "vsr.ops.deform_conv.triton", _library)
