"""Layers shared by the networks."""

import torch.nn.functional as F
from torch import Tensor, nn

from vsr import ops
from vsr.ops import Conv3x3


class ResidualBlock(nn.Module):
    """Adds conv–ReLU–conv to its input; no batch normalisation, the initial branch scaled by 0.1.

    Reference: Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017, figure 2c,
        https://arxiv.org/abs/1707.02921
    Differs: the initialisation, which is ESRGAN's: He et al. 2015 (normal, fan-in), times 0.1.
    """

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(num_feat, num_feat)
        self.conv2 = conv3x3(num_feat, num_feat)
        he_normal(self.conv1, 0.1)
        he_normal(self.conv2, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a feature of the input's shape, (b, c, h, w)."""
        return x + self.conv2(F.relu(self.conv1(x), inplace=True))


def he_normal(conv: nn.Conv2d, scale: float = 1.0) -> None:
    """Initialises a convolution as He et al. 2015 do (normal, fan-in), times ``scale``; its bias, if any, is zero."""
    nn.init.kaiming_normal_(conv.weight)
    conv.weight.data.mul_(scale)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def residual_blocks(num_blocks: int, num_feat: int) -> nn.Sequential:
    """Returns ``num_blocks`` residual blocks in a row."""
    return nn.Sequential(*(ResidualBlock(num_feat) for _ in range(num_blocks)))


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Returns a 3×3 convolution that keeps the size (stride 1) or halves it, rounding up (stride 2)."""
    if stride == 1:
        return Conv3x3(in_channels, out_channels)
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)


def conv_with_reference(conv: nn.Module, frames: Tensor, reference: Tensor, half: Tensor | None = None) -> Tensor:
    """Returns ``conv`` of each frame joined with the reference its clip shares, ``conv(cat([frame, reference], 1))``.

    A convolution is linear, so the reference's half is computed once per clip rather than once per frame.

    Args:
        conv: a Conv3x3 of 2·c channels, the frame's before the reference's.
        frames: (b, t, c, h, w).
        reference: (b, c, h, w); the result is (b·t, c_out, h, w).
        half: ``half_conv(conv, frames)``, (b, t, c_out, h, w), if it is known.
    """
    assert isinstance(conv, Conv3x3), "a ModuleDict does not say what it holds"
    b, t, c = frames.shape[:3]
    own = half_conv(conv, frames.flatten(0, 1)).unflatten(0, (b, t)) if half is None else half
    shared = ops.conv3x3(reference, conv.weight[:, c:], conv.bias)
    return (own + shared.unsqueeze(1)).flatten(0, 1)


def half_conv(conv: nn.Module, frames: Tensor) -> Tensor:
    """Returns the frames' half of ``conv_with_reference``, for frames (n, c, h, w)."""
    assert isinstance(conv, Conv3x3), "a ModuleDict does not say what it holds"
    return ops.conv3x3(frames, conv.weight[:, : frames.shape[1]])


def lrelu(x: Tensor) -> Tensor:
    """Returns LeakyReLU with slope 0.1, EDVR's activation, in place of ``x``: a layer keeps one feature, not two."""
    return F.leaky_relu(x, 0.1, inplace=True)


def upsample_x2(x: Tensor) -> Tensor:
    """Returns ``x`` (b, c, h, w) bilinearly enlarged to (b, c, 2h, 2w), in its dtype, which autocast would widen."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False).to(x.dtype)
