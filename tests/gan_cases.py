"""Options of tiny GANs, and the beginning of a VGG-19."""

from pathlib import Path

import torch
from synthetic import SyntheticSet
from torch import nn
from training import changed, small_options

ADAM = {"type": "Adam", "lr": 1e-3}


def vgg19_file(file: Path) -> str:
    """Writes random weights of VGG-19's first three convolutions, under torchvision's names; returns the path."""
    generator = torch.Generator().manual_seed(3)
    weights = {}
    for index, (width, channels) in {0: (64, 3), 2: (64, 64), 5: (128, 64)}.items():
        weights[f"features.{index}.weight"] = torch.randn(width, channels, 3, 3, generator=generator) / channels**0.5
        weights[f"features.{index}.bias"] = torch.randn(width, generator=generator) / 10
    torch.save(weights, file)
    return str(file)


def gan_options(clips: SyntheticSet, **changes) -> dict:
    """Returns options of a tiny EDVR against a tiny VGG-style discriminator, with its batch normalisation."""
    gan = {
        "trainer": "GANTrainer",
        "network_d": {"type": "VGGStyleDiscriminator", "num_feat": 4},
        "train__optim_d": dict(ADAM),
        "train__gan_opt": {"type": "GANLoss", "loss_weight": 0.1},
    }
    return changed(small_options(clips, **gan), changes)


def real_options(clips: SyntheticSet, folder: Path, **changes) -> dict:
    """Returns options of a tiny RealBasicVSR with all its losses, against a tiny U-Net with spectral norms."""
    vgg = {"type": "PerceptualLoss", "layer_weights": {"2": 0.1, "5": 1}, "weights": vgg19_file(folder / "vgg19.pth")}
    sizes = {"mid_channels": 4, "num_propagation_blocks": 1, "num_cleaning_blocks": 1}
    real = {
        "datasets__train__type": "REDSRecurrentDataset",
        "datasets__train__num_frame": 2,
        "datasets__val": None,
        "network_g": {"type": "RealBasicVSRNet", **sizes},
        "network_d": {"type": "UNetDiscriminatorWithSpectralNorm", "mid_channels": 4},
        "train__pixel_opt": {"type": "L1Loss"},
        "train__cleaning_opt": {"type": "L1Loss"},
        "train__perceptual_opt": vgg,
    }
    return gan_options(clips, **{**real, **changes})


def flat_weights(network: nn.Module) -> torch.Tensor:
    """Returns all parameters of a network in one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
