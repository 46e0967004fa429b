"""The warp in Triton, for CUDA. Gradients are the same in each run: those of x are summed in fixed point."""

# Triton's compiler defines the types of kernel arguments.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

import torch
import triton
from torch import Tensor

from vsr.ops.flow_warp.triton_kernels import gradients_kernel, warp_kernel
from vsr.ops.tensors import layout_of

_POSITIONS, _CHANNELS = 32, 64  # most of a program's block
_MOST_POSITIONS = 256  # with more, the gradients of few channels spill registers on sm_90


def constants(x: Tensor, border: bool) -> dict[str, int | bool]:
    """Returns the compile-time parameters common to the kernels, and the launch options."""
    block = min(_CHANNELS, max(triton.next_power_of_2(x.shape[1]), 4))
    positions = min(_POSITIONS * _CHANNELS // block, _MOST_POSITIONS)
    # enable_fp_fusion: the default before Triton 3.10, which requires it.
    return {
        "C": x.shape[1], "BORDER": border, "BM": positions, "BC": block, "num_warps": 4,
        "enable_fp_fusion": True,
    }  # fmt: skip


def forward(x: Tensor, flow: Tensor, border: bool) -> Tensor:
    """Computes ``vsr::flow_warp`` on a CUDA device."""
    n, _, h, w = x.shape
    known, features = constants(x, border), _inner(x)
    output = torch.empty_like(features)
    if output.numel():
        warp_kernel[triton.cdiv(h * w, known["BM"]), n](features, _flat(flow), output, h, w, h * w, **known)
    return output.movedim(-1, 1).contiguous(memory_format=layout_of(x))


def backward(grad: Tensor, x: Tensor, flow: Tensor, border: bool, needed: list[bool]) -> tuple[Tensor, Tensor]:
    """Computes ``vsr::flow_warp_backward`` on a CUDA device."""
    n, _, h, w = x.shape
    known, features, slopes = constants(x, border), _inner(x), _inner(grad)
    scale = _scale(slopes, h * w) if needed[0] and slopes.numel() else slopes
    sums = torch.zeros(features.shape, dtype=torch.int64, device=x.device) if needed[0] else features
    grad_flow = torch.zeros(flow.shape, device=x.device) if needed[1] else features
    if slopes.numel():
        gradients_kernel[triton.cdiv(h * w, known["BM"]), n](
            slopes, features, _flat(flow), scale, sums, grad_flow, h, w, h * w, **known,
            NEED_X=needed[0], NEED_FLOW=needed[1],
        )  # fmt: skip
    grad_x = x.new_empty(0)
    if needed[0]:
        summed = sums.double() / scale if slopes.numel() else sums
        grad_x = summed.to(x.dtype).movedim(-1, 1).contiguous(memory_format=layout_of(x))
    return grad_x, grad_flow.to(flow.dtype) if needed[1] else x.new_empty(0)


def _inner(x: Tensor) -> Tensor:
    """Returns (n, c, h, w) as contiguous (n, h, w, c)."""
    return x.movedim(1, -1).contiguous()


def _flat(flow: Tensor) -> Tensor:
    return flow.float().contiguous()


def _scale(grad: Tensor, positions: int) -> Tensor:
    """Returns the power of two that keeps every sum within 62 bits, as a tensor on the device; no weight exceeds 1."""
    largest = grad.abs().amax().double() * positions
    scale = torch.exp2(torch.floor(60 - torch.log2(largest)))
    return torch.where(largest == 0, 1.0, scale + 0 * largest)  # 0 · inf and 0 · nan make the whole gradient NaN
