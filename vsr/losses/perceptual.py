"""A perceptual loss: a distance between the features that a trained classifier, VGG-19, has of two frames."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.registry import at_least, register
from vsr.utils.errors import UserError
from vsr.utils.weight_files import read_weights

# channels of VGG-19's convolutions, block by block; a pooling follows each block
BLOCKS = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
SOURCE = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
LAYERS = {"conv5_4": 1.0}


def layer_indices() -> dict[str, int]:
    """Returns the indices of the convolutions in torchvision's ``vgg19().features`` by their names, ``conv1_2``: 2."""
    indices, index = {}, 0
    for block, widths in enumerate(BLOCKS, start=1):
        for number in range(1, len(widths) + 1):
            indices[f"conv{block}_{number}"] = index
            index += 2  # a ReLU follows
        index += 1  # the pooling
    return indices


INDICES = layer_indices()


class VGGFeatures(nn.Sequential):
    """The convolutional part of VGG-19 up to a layer; its names are torchvision's.

    Reference: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
        table 1, column E, https://arxiv.org/abs/1409.1556
    """

    def __init__(self, last: int) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for widths in BLOCKS:
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        super().__init__(*layers[: last + 1])

    def forward(self, images: Tensor, layers: tuple[int, ...]) -> list[Tensor]:
        """Returns the outputs of these layers, in order, for normalised images (n, 3, h, w)."""
        found = []
        for index, layer in enumerate(self):
            images = layer(images)
            found += [images] if index in layers else []
        return found


@register("loss")
class PerceptualLoss(nn.Module):
    """The mean absolute difference of features of VGG-19, before their activation, summed over layers.

    With ``train.amp``, the features are computed in 16 bits, as the network's are.

    Args:
        layer_weights: factors of layers, by their names, ``{conv1_2: 0.1, conv5_4: 1}``, or by torchvision's indices,
            ``{'2': 0.1, '34': 1}``. ~ is conv5_4 alone.
        weights: the file of torchvision's VGG-19, which is not part of this project:
            https://download.pytorch.org/models/vgg19-dcbb9e9d.pth; the default is where BasicSR keeps it.
        perceptual_weight: factor of the loss.

    Raises:
        FileNotFoundError: ``weights`` does not exist.
        ValueError: there is no such layer, or the file holds other weights.

    Reference: Johnson et al., "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016,
        https://arxiv.org/abs/1603.08155; features before activation are ESRGAN's, https://arxiv.org/abs/1809.00219.
        Names and factors are BasicSR's and mmagic's.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        layer_weights: dict[str, Annotated[float, at_least(0)]] | None = None,
        weights: str = "experiments/pretrained_models/vgg19-dcbb9e9d.pth",
        perceptual_weight: Annotated[float, at_least(0)] = 1.0,
    ) -> None:
        super().__init__()
        self.factors = factors_of(LAYERS if layer_weights is None else layer_weights)
        self.perceptual_weight = perceptual_weight
        with torch.device("meta"):
            self.features = VGGFeatures(max(self.factors))
        self.features.load_state_dict(vgg19_weights(Path(weights), self.features), assign=True)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        """Returns the loss of frames or clips (…, 3, h, w), RGB in [0, 1]; h and w are 16 or more for conv5_4."""
        if sr.shape != gt.shape:
            raise ValueError(f"the restored frame is {tuple(sr.shape)}, the ground truth {tuple(gt.shape)}")
        found = self.features_of(sr)
        with torch.no_grad():
            expected = self.features_of(gt)
        pairs = zip(self.factors.values(), found, expected, strict=True)
        terms = [factor * F.l1_loss(ours.float(), theirs.float()) for factor, ours, theirs in pairs]
        return self.perceptual_weight * torch.stack(terms).sum()

    def features_of(self, frames: Tensor) -> list[Tensor]:
        """Returns the features of frames (…, 3, h, w), a tensor for each layer."""
        images = frames.flatten(0, -4) if frames.ndim > 4 else frames
        return self.features((images - self.mean) / self.std, tuple(self.factors))


def factors_of(layer_weights: Mapping[str, float]) -> dict[int, float]:
    """Returns the factors of layers by their indices, in ascending order; raises ValueError for an unknown layer."""
    named = {str(index): index for index in INDICES.values()} | INDICES
    unknown = [name for name in layer_weights if name not in named]
    if unknown or not layer_weights:
        choices = ", ".join(f"{name} ({index})" for name, index in INDICES.items())
        got = f"has no layer {', '.join(map(repr, unknown))}" if unknown else "is empty"
        raise ValueError(f"layer_weights {got}; the layers of VGG-19 are {choices}")
    return dict(sorted((named[name], factor) for name, factor in layer_weights.items()))


def vgg19_weights(file: Path, features: VGGFeatures) -> dict[str, Tensor]:
    """Returns the weights that torchvision's file has for these layers."""
    if not file.is_file():
        raise FileNotFoundError(
            f"weights '{file}' does not exist: download torchvision's VGG-19, {SOURCE} (548 MB), and name the file here"
        )
    try:
        given = read_weights(file)
    except UserError as error:
        raise ValueError(f"weights {error}") from None
    own = features.state_dict()
    found = {name: given.get(f"features.{name}") for name in own}
    wrong = [name for name, value in found.items() if value is None or value.shape != own[name].shape]
    if wrong:
        text = "expected the weights of torchvision's VGG-19"
        raise ValueError(f"weights '{file}' has no fitting features.{wrong[0]}; {text}, {SOURCE}")
    return {name: value for name, value in found.items() if value is not None}
