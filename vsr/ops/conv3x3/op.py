"""Convolution of 3×3 taps: the operator ``vsr::conv3x3`` for CPUs, and the public function.

The kernels are in ``csrc/conv3x3``. Elsewhere, and where they would not be faster, PyTorch's convolution runs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vsr.ops import backend
from vsr.ops.tensors import exporting, layout_of

_library = torch.library.Library("vsr", "FRAGMENT")
backend.define(_library, "conv3x3(Tensor input, Tensor weight, Tensor? bias) -> Tensor")
# Returns the gradients of input, weight and bias; those not `needed` are empty.
backend.define(
    _library,
    "conv3x3_backward(Tensor grad_output, Tensor input, Tensor weight, bool[3] needed) -> (Tensor, Tensor, Tensor)",
)


# Of this CPU, found at import: torch.compile can read them but not trace how they are found. The kernels were measured
# with AVX2 and AVX-512.
HAS_VECTORS = torch.backends.cpu.get_cpu_capability().startswith("AVX")
HAS_AMX = torch.cpu._is_amx_tile_supported()
MULTIPLIES_16_BITS = torch.cpu._is_avx512_bf16_supported() and not HAS_AMX
MIN_CHANNELS = {torch.float32: 16, torch.bfloat16: 32}  # of input and output; with fewer, PyTorch's is as fast
CASTABLE = {torch.float32, torch.float16, torch.bfloat16}  # by autocast
MIN_PIXELS = 256  # of all images; with fewer, transforming the weight takes most of the time


def conv3x3(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns ``torch.nn.functional.conv2d(input, weight, bias, padding=1)`` of 3×3 taps.

    On CPUs, features of 16 or more channels in float32, 32 in bfloat16, are convolved by Winograd's method: 4 times
    fewer multiplications in float32, 3 times fewer in bfloat16. Its rounding error stays below 3e-6 of the output in
    float32 and 1.2e-2 in bfloat16 (root mean squares). CPUs with AMX leave bfloat16 to PyTorch, whose products they
    speed up more. Under autocast the weight is transformed in float32 and rounded once.

    Args:
        input: (n, c, h, w), in any memory format; channels_last needs no copies.
        weight: (co, c, 3, 3).
        bias: (co,).

    Returns:
        (n, co, h, w), in the autocast type or that of ``input``; channels_last if the input is. On CPUs differentiable
        once; ``VSR_OPS=reference`` leaves everything to PyTorch.

    Raises:
        RuntimeError: sizes or dtypes do not fit each other.

    Reference:
        A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
        https://arxiv.org/abs/1509.09308
    """
    tensors = [input, weight] if bias is None else [input, weight, bias]
    dtypes = {x.dtype for x in tensors}
    if torch.is_autocast_enabled("cpu") and dtypes <= CASTABLE:
        dtypes = {torch.get_autocast_dtype("cpu")}
    if input.device.type != "cpu" or len(dtypes) > 1:
        return F.conv2d(input, weight, bias, padding=1)
    (dtype,) = dtypes
    if not is_faster(input, weight, dtype):
        return F.conv2d(input, weight, bias, padding=1)
    return torch.ops.vsr.conv3x3(input.to(dtype), weight, bias)


def is_faster(input: Tensor, weight: Tensor, dtype: torch.dtype) -> bool:
    """Returns whether the kernels can run on this CPU, computing in ``dtype``, and are faster than PyTorch's."""
    if dtype not in MIN_CHANNELS or input.dim() != 4 or weight.dim() != 4 or not HAS_VECTORS or _is_transformed():
        return False
    outputs, channels, *taps = weight.shape
    needs_gradient = torch.is_grad_enabled() and input.requires_grad  # whose channels are the outputs
    fewest = min(outputs, channels) if needs_gradient else channels
    if taps != [3, 3] or channels != input.shape[1] or fewest < MIN_CHANNELS[dtype]:
        return False
    if (
        input.shape[0] * input.shape[2] * input.shape[3] < MIN_PIXELS
        or backend.choose("conv3x3", "cpu").backend != "compiled"
    ):
        return False
    return dtype == torch.float32 or MULTIPLIES_16_BITS


def _is_transformed() -> bool:
    """Returns whether a program is exported, or forward-mode derivatives are taken: the operator has none."""
    is_traced = exporting() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    return is_traced or torch.autograd.forward_ad._current_level >= 0


@torch.library.register_fake("vsr::conv3x3", lib=_library)
def _fake(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    size = (input.shape[0], weight.shape[0], *input.shape[2:])
    return torch.empty(size, dtype=input.dtype, device=input.device, memory_format=layout_of(input))


@torch.library.register_fake("vsr::conv3x3_backward", lib=_library)
def _fake_backward(grad_output: Tensor, input: Tensor, weight: Tensor, needed: list[bool]) -> tuple[Tensor, ...]:
    computed = needed[1] or needed[2]
    return (
        torch.empty_like(input, memory_format=layout_of(input)) if needed[0] else input.new_empty(0),
        torch.empty_like(weight, memory_format=torch.contiguous_format) if computed else weight.new_empty(0),
        weight.new_empty(weight.shape[0] if computed else 0),
    )


def _save_for_backward(ctx: Any, inputs: tuple, output: Tensor) -> None:
    input, weight, _ = inputs
    ctx.save_for_backward(input, weight)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():  # without this error, second derivatives would silently be missing
        raise RuntimeError("conv3x3 is differentiable once on CPUs; VSR_OPS=reference supports higher derivatives")
    needed = list(ctx.needs_input_grad)
    computed = torch.ops.vsr.conv3x3_backward(grad_output, *ctx.saved_tensors, needed)
    return tuple(gradient if wanted else None for gradient, wanted in zip(computed, needed, strict=True))


torch.library.register_autograd("vsr::conv3x3", _backward, setup_context=_save_for_backward, lib=_library)
