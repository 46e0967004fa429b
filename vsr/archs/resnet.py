"""ResNet-18 as an encoder, with the parameter names of torchvision, and a decoder for its levels."""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.registry import register

CHANNELS = [64, 128, 256, 512]  # of layer1 … layer4
STRIDES = [4, 8, 16, 32]


@register("encoder")
class ResNetEncoder(nn.Module):
    """Makes features of several sizes: those after layer1, layer2 … of ResNet-18.

    Args:
        num_levels: layers that are used, 1 to 4: features of 64, 128, 256 and 512 channels, 1/4 to 1/32 of the size.

    ``path.pretrain_network_g: {encoder: FILE}`` loads a file in torchvision's layout (``layer1.0.conv1.weight``, …),
    such as a network for action recognition; a classifier ``fc`` and unused layers are left out.

    Its ``channels`` and ``strides`` are those of FramePredictor's Encoder.

    Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1,
        https://arxiv.org/abs/1512.03385
    Differs: the batch norms apply the mean and variance of the loaded weights (0 and 1 without), since a batch is often
        a single image, and learn scale and shift only. Untrained, each residual branch starts at zero.
    """

    def __init__(self, num_levels: Literal[1, 2, 3, 4] = 4) -> None:
        super().__init__()
        self.channels, self.strides = CHANNELS[:num_levels], STRIDES[:num_levels]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = StoredNorm(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layers = [f"layer{level + 1}" for level in range(num_levels)]
        previous = 64
        for name, channels in zip(self.layers, self.channels, strict=True):
            stride = 1 if channels == previous else 2
            self.add_module(name, nn.Sequential(BasicBlock(previous, channels, stride), BasicBlock(channels, channels)))
            previous = channels
        self.mean: Tensor  # mean and standard deviation of ImageNet's pixels, as torchvision's weights expect
        self.std: Tensor
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Returns the levels' features, [(b, c_l, h / stride_l, w / stride_l)], of an image (b, 3, h, w) in [0, 1]."""
        x = self.maxpool(F.relu(self.bn1(self.conv1((image - self.mean) / self.std))))
        features = []
        for name in self.layers:
            x = getattr(self, name)(x)
            features.append(x)
        return features


@register("decoder")
class ResNetDecoder(nn.Module):
    """Makes an image of an encoder's levels: enlarges the smallest, joins it with the next by a block, and so on.

    Args:
        channels: of the levels' features, largest first.
        strides: image size / feature size, of each level, powers of 2.
        out_channels: of the image.

    Reference: none; a mirror of ResNetEncoder.
    """

    def __init__(self, channels: list[int], strides: list[int], out_channels: int, /) -> None:
        super().__init__()
        self.enlarge = nn.Upsample(scale_factor=2)
        pairs = list(pairwise(channels))
        self.join = nn.ModuleList(BasicBlock(larger + smaller, larger) for larger, smaller in pairs)
        halvings = strides[0].bit_length() - 1  # from the image to the largest level
        widths = [channels[0], *(max(channels[0] >> step + 1, 16) for step in range(halvings))]
        self.finish = nn.Sequential(*(nn.Sequential(self.enlarge, BasicBlock(a, b)) for a, b in pairwise(widths)))
        self.image = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Returns the image (b, out_channels, h, w) of the levels' features, largest first."""
        x = features[-1]
        for feature, join in zip(features[-2::-1], self.join[::-1], strict=True):
            x = join(torch.cat([feature, self.enlarge(x)], 1))
        return self.image(self.finish(x))


class BasicBlock(nn.Module):
    """Adds two 3×3 convolutions to its input, or to a 1×1 convolution of it where sizes or channels change."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = StoredNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = StoredNorm(channels)
        nn.init.zeros_(self.bn2.weight)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or in_channels != channels:
            conv = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, StoredNorm(channels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Returns (b, channels, h / stride, w / stride)."""
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(branch + self.downsample(x))


class StoredNorm(nn.BatchNorm2d):
    """A batch norm that applies its stored mean and variance in training too; its parameters have the same names."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns a feature of the input's shape."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, eps=self.eps)
