"""The deformable convolution layer that predicts its offsets and masks."""

import math
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from vsr.ops.conv3x3.layer import Conv3x3
from vsr.ops.conv3x3.op import HAS_AMX
from vsr.ops.deform_conv.checks import Pair, pair
from vsr.ops.deform_conv.op import deform_conv2d


class ModulatedDeformConvPack(nn.Module):
    """Modulated deformable convolution. The convolution ``conv_offset`` predicts its offsets and masks from a feature.

    ``conv_offset`` is initialised to zero: every tap reads its own pixel with mask 0.5. Its output channels are the
    offsets, then the masks before the sigmoid, in the order of ``deform_conv2d``, as in the published checkpoints of
    DCNv2 and EDVR.

    Args:
        in_channels: channels of the sampled feature and of the feature that ``conv_offset`` reads.
        out_channels: channels of the output.
        kernel_size: (kh, kw), or one number for both.
        stride: stride of the convolution.
        padding: zero padding in pixels.
        dilation: spacing of the taps in pixels.
        groups: groups of the weight.
        deformable_groups: channel groups with their own offsets and masks.
        bias: whether to add a learnable bias.

    Attributes:
        track_offsets: whether forward passes update ``offset_magnitude``. Default: False.
        offset_magnitude: (2,), mean and maximum absolute offset of the last tracked pass, in pixels. It is kept on the
            device, so only reading it synchronises. A mean above 50 pixels means that training has diverged.

    Reference:
        X. Zhu et al., "Deformable ConvNets v2: More Deformable, Better Results", CVPR 2019, section 3.2.
        https://arxiv.org/abs/1811.11168

    Differs:
        the published layer checks the offsets in every pass, which synchronises; here see ``offset_magnitude``.
        Under autocast, ``conv_offset`` runs in float32. On a CPU with AMX, which multiplies bfloat16 several times as
        fast, it runs in the autocast type: an offset of bfloat16 is off by at most 1/512 of itself, 0.03 pixels at 16.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        for name, number in (("groups", groups), ("deformable_groups", deformable_groups)):
            if number < 1 or in_channels % number:
                raise ValueError(f"{name} is {number}; expected a divisor of in_channels, {in_channels}")
        if out_channels % groups:
            raise ValueError(f"out_channels is {out_channels}; expected a multiple of groups, {groups}")
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self.stride = pair("stride", stride, 1)
        self.padding = pair("padding", padding, 0)
        self.dilation = pair("dilation", dilation, 1)
        taps = self.kernel_size[0] * self.kernel_size[1]
        self.offset_channels = [2 * deformable_groups * taps, deformable_groups * taps]
        self.track_offsets = False

        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        bound = 1 / math.sqrt(in_channels * taps)
        nn.init.uniform_(self.weight, -bound, bound)
        geometry = self.kernel_size, self.stride, self.padding, self.dilation
        self.conv_offset: nn.Module = (
            Conv3x3(in_channels, sum(self.offset_channels))
            if geometry == ((3, 3), (1, 1), (1, 1), (1, 1))
            else nn.Conv2d(in_channels, sum(self.offset_channels), *geometry)
        )
        for parameter in self.conv_offset.parameters():
            nn.init.zeros_(parameter)
        self.offset_magnitude: Tensor
        self.register_buffer("offset_magnitude", torch.zeros(2), persistent=False)

    def forward(self, x: Tensor, feature: Tensor) -> Tensor:
        """Samples ``x`` at the offsets predicted from ``feature``, both (n, in_channels, h, w).

        Returns (n, out_channels, ho, wo).
        """
        offset, mask = self.predict(feature)
        if self.track_offsets:
            magnitude = offset.detach().abs()
            self.offset_magnitude.copy_(torch.stack([magnitude.mean(), magnitude.amax()]))
        return deform_conv2d(x, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask)

    def predict(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the offsets and masks that ``deform_conv2d`` reads."""
        offset, mask = self.raw(feature)
        return offset, torch.sigmoid(mask)

    def raw(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the offsets and the masks before the sigmoid that ``conv_offset`` computes of a feature."""
        if HAS_AMX and feature.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            predicted = self.conv_offset(feature)
        else:
            with nullcontext() if feature.is_meta else torch.autocast(feature.device.type, enabled=False):
                predicted = self.conv_offset(feature.to(self.weight.dtype))
        # Two views, no copy. The published code chunks into (offset 1, offset 2, mask) and concatenates the first two.
        offset, mask = predicted.split(self.offset_channels, dim=1)
        return offset, mask
