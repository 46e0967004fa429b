"""A deformable convolution that predicts its own offsets and masks."""

import math

import torch
from torch import Tensor, nn

from vsr.ops.deform_conv.checks import Pair, pair
from vsr.ops.deform_conv.op import deform_conv2d


class ModulatedDeformConvPack(nn.Module):
    """Modulated deformable convolution whose offsets and masks the convolution ``conv_offset`` predicts from a feature.

    ``conv_offset`` starts at zero: every tap reads its own pixel with mask 0.5. Its channels are all y and x offsets,
    then the masks before the sigmoid, in the order of ``deform_conv2d``, as in published DCNv2 and EDVR checkpoints.

    Args:
        in_channels: c of the feature that is sampled, and of the one that predicts.
        out_channels: co.
        kernel_size: kh and kw.
        stride: of the output's positions.
        padding: pixels of 0 around the frame.
        dilation: distance of the taps.
        groups: of the weight.
        deformable_groups: parts of the channels with offsets of their own.
        bias: adds one number per output channel.

    Attributes:
        track_offsets: set it before a forward pass whose offsets are to be measured.
        offset_magnitude: (2,), mean and maximum of that pass's absolute offsets, in pixels. It stays on the device, so
            that only reading it waits for the device. A mean above 50 says that training is lost.

    Reference:
        X. Zhu et al., "Deformable ConvNets v2: More Deformable, Better Results", CVPR 2019, section 3.2.
        https://arxiv.org/abs/1811.11168

    Differs:
        the published layer prints a warning, which waits for the device in every pass; here see ``offset_magnitude``.
        Under autocast, ``conv_offset`` stays in float32: half-precision offsets cost more accuracy than all else does.
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
        self.conv_offset = nn.Conv2d(
            in_channels, sum(self.offset_channels), self.kernel_size, self.stride, self.padding, self.dilation
        )
        for parameter in self.conv_offset.parameters():
            nn.init.zeros_(parameter)
        self.offset_magnitude: Tensor
        self.register_buffer("offset_magnitude", torch.zeros(2), persistent=False)

    def forward(self, x: Tensor, feature: Tensor) -> Tensor:
        """Returns x sampled where ``feature`` says and convolved: (n, out_channels, ho, wo).

        Args:
            x: (n, in_channels, h, w).
            feature: (n, in_channels, h, w).
        """
        with torch.autocast(x.device.type, enabled=False):
            predicted = self.conv_offset(feature.to(self.conv_offset.weight.dtype))
        # Two views, no copy: the published code chunks into (offset 1, offset 2, mask) and joins the first two again.
        offset, mask = predicted.split(self.offset_channels, dim=1)
        if self.track_offsets:
            magnitude = offset.detach().abs()
            self.offset_magnitude.copy_(torch.stack([magnitude.mean(), magnitude.amax()]))
        return deform_conv2d(
            x, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, torch.sigmoid(mask)
        )
