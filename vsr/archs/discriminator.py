"""Discriminators, which judge how real images are: the U-Net of RealBasicVSR, and the VGG of ESRGAN."""

import math
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm  # the newer parametrization names the parameters otherwise

from vsr.archs.layers import upsample_x2
from vsr.registry import Positive, Shared, register

UNET_MULTIPLE = 8  # three levels
LAST_SIZE = 4  # pixels of the features that the VGG's linear layers read


@register("discriminator")
class UNetDiscriminatorWithSpectralNorm(nn.Module):
    """Judges each pixel of an image: a U-Net whose convolutions have spectral norm 1.

    Parameter names are those of mmagic's weights.

    Args:
        in_channels: channels of the image.
        mid_channels: channels of the features at full size.

    Reference: Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data", ICCVW
        2021, https://arxiv.org/abs/2107.10833
    """

    def __init__(self, in_channels: Positive = 3, mid_channels: Positive = 64) -> None:
        super().__init__()
        c = mid_channels

        def normed(given: int, made: int, kernel: int = 3, stride: int = 1) -> nn.Module:
            return spectral_norm(nn.Conv2d(given, made, kernel, stride, 1, bias=False))

        self.conv_0 = nn.Conv2d(in_channels, c, 3, padding=1)
        self.conv_1, self.conv_2, self.conv_3 = (normed(c * n, c * n * 2, 4, 2) for n in (1, 2, 4))
        self.conv_4, self.conv_5, self.conv_6 = (normed(c * n, c * n // 2) for n in (8, 4, 2))
        self.conv_7, self.conv_8 = normed(c, c), normed(c, c)
        self.conv_9 = nn.Conv2d(c, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Returns logits (n, 1, h, w) of images (n, 3, h, w); raises ValueError for sides that 8 does not divide."""
        h, w = image.shape[-2:]
        if h % UNET_MULTIPLE or w % UNET_MULTIPLE:
            raise ValueError(f"{type(self).__name__} judges images whose sides are multiples of 8, got {h} × {w}")
        levels = [_lrelu(self.conv_0(image))]
        for conv in (self.conv_1, self.conv_2, self.conv_3):
            levels.append(_lrelu(conv(levels[-1])))
        x = levels.pop()
        for conv in (self.conv_4, self.conv_5, self.conv_6):
            x = _lrelu(conv(upsample_x2(x))) + levels.pop()
        return self.conv_9(_lrelu(self.conv_8(_lrelu(self.conv_7(x)))))


@register("discriminator")
class VGGStyleDiscriminator(nn.Module):
    """Judges an image of a fixed size by one number: a VGG with batch normalisation.

    Parameter names are those of BasicSR's weights.

    Args:
        num_in_ch: channels of the image.
        num_feat: channels of the features at full size.
        input_size: side of the image in pixels, 4 times a power of two: 128 or 256 in BasicSR. The default is the
            training data's gt_size.

    Raises:
        ValueError: ``input_size`` is no such number.

    Reference: Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network",
        CVPR 2017, figure 4, https://arxiv.org/abs/1609.04802, as ESRGAN and BasicSR have it.
    """

    def __init__(
        self,
        num_in_ch: Positive = 3,
        num_feat: Positive = 64,
        input_size: Annotated[Positive, Shared("datasets.train.gt_size")] = 128,
    ) -> None:
        super().__init__()
        num_levels = int(math.log2(max(input_size // LAST_SIZE, 1)))
        if num_levels < 1 or input_size != LAST_SIZE * 2**num_levels:
            raise ValueError(f"input_size: {input_size} is not 8, 16, 32, 64 and so on")
        self.input_size, self.num_levels, channels = input_size, num_levels, num_in_ch
        for level in range(num_levels):
            width = num_feat * min(2**level, 8)
            self.add_module(f"conv{level}_0", nn.Conv2d(channels, width, 3, 1, 1, bias=level == 0))
            self.add_module(f"bn{level}_0", nn.BatchNorm2d(width) if level else nn.Identity())
            self.add_module(f"conv{level}_1", nn.Conv2d(width, width, 4, 2, 1, bias=False))
            self.add_module(f"bn{level}_1", nn.BatchNorm2d(width))
            channels = width
        self.linear1 = nn.Linear(channels * LAST_SIZE**2, 100)
        self.linear2 = nn.Linear(100, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Returns logits (n, 1) of images (n, 3, input_size, input_size); raises ValueError for another size."""
        if image.shape[-2:] != (self.input_size, self.input_size):
            h, w = image.shape[-2:]
            text = f"judges images of {self.input_size} × {self.input_size} (input_size), got {h} × {w}"
            raise ValueError(f"{type(self).__name__} {text}")
        for level in range(self.num_levels):
            for step in (0, 1):
                conv, norm = self.get_submodule(f"conv{level}_{step}"), self.get_submodule(f"bn{level}_{step}")
                image = _lrelu(norm(conv(image)))
        return self.linear2(_lrelu(self.linear1(image.flatten(1))))


def _lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
