"""Watches the offsets of deformable convolutions: when they run away, alignment and then the training is lost.

The mean absolute offset is what EDVR's authors watched; above 50 to 100 pixels it "must be meaningless"
(https://github.com/xinntao/EDVR/issues/22).
"""

import math
from typing import NamedTuple

import torch
from torch import nn

from vsr.engine.options import TrainOptions
from vsr.utils.distributed import Place, over_ranks
from vsr.utils.log import logger


class LayerOffset(NamedTuple):
    """Mean and maximum absolute offset of a deformable convolution, in pixels."""

    layer: str
    mean: float
    maximum: float


def track_offsets(network: nn.Module, on: bool) -> None:
    """Makes the deformable convolutions note the offsets of the next forward pass, or not."""
    for module in network.modules():
        if hasattr(module, "track_offsets"):
            module.track_offsets = on  # type: ignore[assignment]  # known to be a switch


def read_offsets(network: nn.Module, place: Place) -> list[LayerOffset]:
    """Returns what each deformable convolution noted, the largest of all ranks; waits for the device once."""
    layers = [(name, module) for name, module in network.named_modules() if hasattr(module, "offset_magnitude")]
    if not layers:
        return []
    magnitudes = torch.stack([module.get_buffer("offset_magnitude") for _, module in layers])
    values = over_ranks(magnitudes, place, "max").tolist()
    return [LayerOffset(name, mean, maximum) for (name, _), (mean, maximum) in zip(layers, values, strict=True)]


def offsets_are_well(offsets: list[LayerOffset], iteration: int, train: TrainOptions) -> bool:
    """Returns whether every layer's mean offset is below the limit; says so once if not. NaN is above it."""
    worst = max(offsets, key=lambda offset: math.inf if math.isnan(offset.mean) else offset.mean, default=None)
    if worst is None or worst.mean <= train.offset_limit:
        return True
    logger.warning(
        "iteration %d: mean offset %.0f pixels in %s, above offset_limit %g: alignment is lost (offset_guard: %s)",
        iteration,
        worst.mean,
        worst.layer,
        train.offset_limit,
        train.offset_guard,
    )
    return False
