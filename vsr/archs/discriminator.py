"""The U-Net discriminator of Real-ESRGAN and RealBasicVSR."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm  # the newer parametrization names the parameters otherwise

from vsr.archs.layers import upsample_x2


class UNetDiscriminatorWithSpectralNorm(nn.Module):
    """Judges each pixel of an image: a U-Net whose convolutions have spectral norm 1.

    Parameter names are those of mmagic's weights.

    Args:
        in_channels: channels of the image.
        mid_channels: channels of the features at full size.

    Reference: Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data", ICCVW
        2021, https://arxiv.org/abs/2107.10833
    """

    def __init__(self, in_channels: int = 3, mid_channels: int = 64) -> None:
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
        """Returns logits (n, 1, h, w) of images (n, 3, h, w) whose sides are multiples of 8."""
        levels = [_lrelu(self.conv_0(image))]
        for conv in (self.conv_1, self.conv_2, self.conv_3):
            levels.append(_lrelu(conv(levels[-1])))
        x = levels.pop()
        for conv in (self.conv_4, self.conv_5, self.conv_6):
            x = _lrelu(conv(upsample_x2(x))) + levels.pop()
        return self.conv_9(_lrelu(self.conv_8(_lrelu(self.conv_7(x)))))


def _lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
