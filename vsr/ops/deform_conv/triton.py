"""The deformable convolution in Triton, for CUDA: fused, without columns in memory.

Gradients of offset, mask and weight are written without races. Those of the input are added atomically, in fixed point
in deterministic mode.
"""

# Triton's compiler defines the types of kernel arguments.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

from itertools import chain
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from vsr.ops.deform_conv.checks import Pair, output_size
from vsr.ops.deform_conv.triton_kernels import data_gradients_kernel, forward_kernel, weight_gradient_kernel
from vsr.ops.tensors import layout_of


class Sizes(NamedTuple):
    """Compile-time sizes of the kernels."""

    channels: int
    outputs: int
    offset_groups: int
    kernel: Pair
    padded_groups: int
    padded_group_channels: int
    padded_outputs: int

    @property
    def padded_channels(self) -> int:
        """Number of columns of one tap."""
        return self.padded_groups * self.padded_group_channels

    def constants(self, x: Tensor, mask: Tensor | None) -> dict[str, int | bool | str]:
        """Returns the compile-time parameters common to all kernels, and the launch options.

        The block of positions and the pipeline stages (taps whose weights are loaded ahead) are the largest that spill
        no register when compiled for sm_90 with 8 warps.
        """
        is_float32 = x.dtype == torch.float32
        widest = max(self.padded_channels, self.padded_outputs)
        block, stages = (32 if is_float32 else 64, 2) if widest <= (64 if is_float32 else 128) else (16, 1)
        # fp32_precision reflects both settings of TF32; allow_tf32 raises after the newer one was written.
        may_round = not is_float32 or torch.backends.cuda.matmul.fp32_precision == "tf32"
        # enable_fp_fusion: the default before Triton 3.10, which requires it.
        return {
            "C": self.channels, "CO": self.outputs, "DG": self.offset_groups, "KW": self.kernel[1],
            "TAPS": self.kernel[0] * self.kernel[1], "G": self.padded_groups, "GP": self.padded_group_channels,
            "OP": self.padded_outputs, "BM": block, "HAS_MASK": mask is not None,
            "PRECISION": "tf32" if may_round else "tf32x3",  # otherwise three TF32 products
            "num_warps": 8, "num_stages": stages, "enable_fp_fusion": True,
        }  # fmt: skip


def sizes_of(input: Tensor, offset: Tensor, weight: Tensor) -> Sizes:
    """Returns the sizes, padded to powers of two; a tensor-core product is at least 16 × 16 × 16."""
    channels, (outputs, _, kh, kw) = input.shape[1], weight.shape
    offset_groups = offset.shape[1] // (2 * kh * kw)
    groups = triton.next_power_of_2(offset_groups)
    group_channels = max(triton.next_power_of_2(channels // offset_groups), -(-16 // groups))
    padded_outputs = max(16, triton.next_power_of_2(outputs))
    return Sizes(channels, outputs, offset_groups, (kh, kw), groups, group_channels, padded_outputs)


def pack_weight(weight: Tensor, sizes: Sizes) -> Tensor:
    """Returns the weight as (taps, padded channels, padded outputs); the padding is zero."""
    dense, groups = weight, sizes.channels // weight.shape[1]
    if groups > 1:
        dense = weight.new_zeros(weight.shape[0], sizes.channels, *weight.shape[2:])
        _diagonal(dense, groups).copy_(weight.unflatten(0, (groups, -1)))
    dense = dense.permute(2, 3, 1, 0).flatten(0, 1)  # (taps, c, co)
    by_group = dense.unflatten(1, (sizes.offset_groups, -1))
    packed = weight.new_zeros(dense.shape[0], sizes.padded_groups, sizes.padded_group_channels, sizes.padded_outputs)
    packed[:, : sizes.offset_groups, : by_group.shape[2], : sizes.outputs] = by_group
    return packed.flatten(1, 2)


def unpack_weight(packed: Tensor, weight: Tensor, sizes: Sizes) -> Tensor:
    """Returns a packed gradient in the shape of ``weight``."""
    group_channels = sizes.channels // sizes.offset_groups
    by_group = packed.unflatten(1, (sizes.padded_groups, -1))
    dense = by_group[:, : sizes.offset_groups, :group_channels, : sizes.outputs].flatten(1, 2)  # (taps, c, co)
    dense = dense.permute(2, 1, 0).unflatten(2, sizes.kernel)
    return _diagonal(dense, sizes.channels // weight.shape[1]).flatten(0, 1).contiguous().to(weight.dtype)


def _diagonal(dense: Tensor, groups: int) -> Tensor:
    """Views the blocks (groups, co / groups, c / groups, kh, kw) of a grouped weight in a dense one (co, c, kh, kw)."""
    return dense.unflatten(0, (groups, -1)).unflatten(2, (groups, -1)).diagonal(dim1=0, dim2=2).movedim(-1, 0)


def _positions(x: Tensor) -> Tensor:
    """Returns a tensor whose positions have one common stride; copies only if necessary."""
    return x if x.shape[2] == 1 or x.stride(2) == x.shape[3] * x.stride(3) else x.contiguous()


def _strides(x: Tensor | None) -> tuple[int, int, int]:
    return (0, 0, 0) if x is None else (x.stride(0), x.stride(1), x.stride(3) if x.shape[3] > 1 else x.stride(2))


def forward(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None, *geometry: list[int]
) -> Tensor:
    """Computes ``vsr::deform_conv2d`` on a CUDA device."""
    layout = layout_of(input)
    n, _, h, w = input.shape
    ho, wo = output_size(input, weight, *geometry)
    sizes = sizes_of(input, offset, weight)
    x = input.contiguous(memory_format=torch.channels_last)
    offset, mask = _positions(offset), None if mask is None else _positions(mask)
    y = torch.empty(n, ho, wo, sizes.outputs, dtype=input.dtype, device=input.device)
    constants = sizes.constants(x, mask)
    if y.numel():
        forward_kernel[triton.cdiv(ho * wo, constants["BM"]), n](
            x, offset, x if mask is None else mask, pack_weight(weight, sizes), x if bias is None else bias, y,
            h, w, wo, ho * wo, *_strides(offset), *_strides(mask), *chain(*geometry),
            **constants, HAS_BIAS=bias is not None,
        )  # fmt: skip
    return y.permute(0, 3, 1, 2).contiguous(memory_format=layout)


def backward(
    grad_output: Tensor, input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, stride: list[int],
    padding: list[int], dilation: list[int], needed: list[bool], deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Computes ``vsr::deform_conv2d_backward`` on a CUDA device."""
    n, _, h, w = input.shape
    ho, wo = grad_output.shape[2:]
    sizes = sizes_of(input, offset, weight)
    x = input.contiguous(memory_format=torch.channels_last)
    grad_y = grad_output.permute(0, 2, 3, 1).contiguous()
    offset_, mask_ = _positions(offset), None if mask is None else _positions(mask)
    geometry = (*stride, *padding, *dilation)
    read = (*_strides(offset_), *_strides(mask_))
    constants = sizes.constants(x, mask)
    blocks = triton.cdiv(ho * wo, constants["BM"])
    need_mask = needed[3] and mask is not None

    grad_offset = torch.empty_like(offset, memory_format=layout_of(offset)) if needed[1] else offset.new_empty(0)
    grad_mask = torch.empty_like(mask, memory_format=layout_of(mask)) if need_mask else offset.new_empty(0)
    sum_dtype = torch.int64 if deterministic else torch.float32
    grad_x = torch.zeros(n, h, w, sizes.channels, dtype=sum_dtype, device=x.device) if needed[0] else x
    scale = _scale(grad_y, weight, mask, ho * wo) if deterministic and needed[0] and grad_y.numel() else x
    if grad_y.numel() and (needed[0] or needed[1] or need_mask):
        data_gradients_kernel[blocks, n](
            grad_y, x, offset_, x if mask_ is None else mask_, pack_weight(weight, sizes).transpose(1, 2).contiguous(),
            scale, grad_x, grad_offset, grad_mask, h, w, wo, ho * wo, *read,
            *(_strides(grad_offset) if needed[1] else (0, 0, 0)), *(_strides(grad_mask) if need_mask else (0, 0, 0)),
            *geometry, **constants, NEED_X=needed[0], NEED_OFFSET=needed[1], NEED_MASK=need_mask, FIXED=deterministic,
        )  # fmt: skip
    grad_input = input.new_empty(0)
    if needed[0]:
        summed = (grad_x.double() / scale).float() if deterministic and grad_y.numel() else grad_x
        grad_input = summed.to(input.dtype).permute(0, 3, 1, 2).contiguous(memory_format=layout_of(input))

    grad_weight = weight.new_empty(0)
    if needed[2]:
        taps = sizes.kernel[0] * sizes.kernel[1]
        splits = _splits(taps, x.device)
        parts = torch.zeros(splits, taps, sizes.padded_channels, sizes.padded_outputs, device=x.device)
        if grad_y.numel():
            weight_gradient_kernel[taps, splits](
                grad_y, x, offset_, x if mask_ is None else mask_, parts, blocks, n, h, w, wo, ho * wo,
                *read, *geometry, **constants, SPLITS=splits,
            )  # fmt: skip
        grad_weight = unpack_weight(parts.sum(0), weight, sizes)
    return grad_input, grad_offset, grad_weight, grad_mask


def _splits(taps: int, device: torch.device) -> int:
    """Returns the number of programs per tap that compute the weight's gradient: as many as run concurrently.

    A multiprocessor runs one or two at a time.
    """
    if device.type != "cuda":
        return 2  # Triton's interpreter
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, 2 * processors // taps)


def _scale(grad_y: Tensor, weight: Tensor, mask: Tensor | None, positions: int) -> Tensor:
    """Returns the power of two that keeps every sum of input gradients within 62 bits, as a tensor on the device."""
    terms = weight.shape[0] * weight.shape[2] * weight.shape[3] * positions
    largest = grad_y.abs().amax().double() * weight.abs().amax().double() * terms
    if mask is not None:
        largest = largest * mask.abs().amax().double()
    scale = torch.exp2(torch.floor(60 - torch.log2(largest)))
    return torch.where(largest == 0, 1.0, scale + 0 * largest)  # 0 · inf and 0 · nan make the whole gradient NaN
