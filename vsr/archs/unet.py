"""A U-Net in two halves, between which a memory can be read level by level."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from vsr.archs.layers import he_normal
from vsr.registry import Positive, register


@register("encoder")
class UNetEncoder(nn.Module):
    """Makes features of several sizes: two convolutions a level, each level half as large as the one before.

    Args:
        channels: of the image, 3, then of each level: [3, 32, 64, 128] has levels of full, half and quarter size.

    Its ``channels`` and ``strides`` are those of FramePredictor's Encoder.

    Raises:
        ValueError: ``channels`` has no level, or is not of an RGB image.

    Reference: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
        figure 1, https://arxiv.org/abs/1505.04597
    Differs: padded convolutions, so that sizes are halved exactly.
    """

    def __init__(self, channels: list[Positive]) -> None:
        super().__init__()
        if len(channels) < 2 or channels[0] != 3:
            raise ValueError(f"channels {channels}: expected 3, as frames are RGB, then those of at least one level")
        self.channels = channels[1:]
        self.strides = [2**level for level in range(len(self.channels))]
        self.levels = nn.ModuleList(two_convs(*pair) for pair in pairwise(channels))
        self.shrink = nn.MaxPool2d(2)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Returns the levels' features, [(b, c_l, h / stride_l, w / stride_l)], of an image (b, 3, h, w)."""
        features: list[Tensor] = []
        for level in self.levels:
            features.append(level(self.shrink(features[-1]) if features else image))
        return features


@register("decoder")
class UNetDecoder(nn.Module):
    """Makes an image of a UNetEncoder's levels: enlarges the smallest, joins it with the next, and so on.

    Args:
        channels: of the levels' features, largest first.
        strides: image size / feature size, of each level.
        out_channels: of the image.

    Raises:
        ValueError: the levels are not those of a UNetEncoder.

    Reference: as UNetEncoder.
    """

    def __init__(self, channels: list[int], strides: list[int], out_channels: int, /) -> None:
        super().__init__()
        if strides != [2**level for level in range(len(channels))]:
            raise ValueError(f"UNetDecoder joins levels of 1, 1/2, 1/4 … of the size, got strides {strides}")
        pairs = list(pairwise(channels))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(smaller, larger, 2, 2) for larger, smaller in pairs)
        self.levels = nn.ModuleList(two_convs(2 * larger, larger) for larger, _ in pairs)
        self.image = nn.Conv2d(channels[0], out_channels, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Returns the image (b, out_channels, h, w) of the levels' features, largest first."""
        x = features[-1]
        for feature, enlarge, level in zip(features[-2::-1], self.enlarge[::-1], self.levels[::-1], strict=True):
            x = level(torch.cat([feature, enlarge(x)], 1))
        return self.image(x)


def two_convs(in_channels: int, out_channels: int) -> nn.Sequential:
    """Returns two 3×3 convolutions that keep the size and, at first, the spread; each is followed by a ReLU."""
    convs = [nn.Conv2d(channels, out_channels, 3, padding=1) for channels in (in_channels, out_channels)]
    for conv in convs:
        he_normal(conv)
    return nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU())
