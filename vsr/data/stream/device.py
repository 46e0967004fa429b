"""Batches on their device: what a loader yields becomes what a network takes."""

from typing import Any

import torch
from torch import Tensor

from vsr.data.stream.augment import to_unit_range

Batch = dict[str, Any]  # tensors by name, and lists of texts such as "key"


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Returns the batch on the device, augmented if that was left to it, its uint8 pixels as float32 in [0, 1].

    A batch that has been through this is returned as it is.
    """
    moved = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
    choices = moved.pop("augment", None)
    for name, value in moved.items():
        if isinstance(value, Tensor) and value.dtype == torch.uint8:
            moved[name] = to_unit_range(value if choices is None else augmented_batch(value, choices))
    return moved


def augmented_batch(pixels: Tensor, choices: Tensor) -> Tensor:
    """Returns each sample mirrored horizontally, then vertically, then transposed, where it is chosen.

    Args:
        pixels: (b, …, s, s).
        choices: (b, 3) bool.
    """
    turns = (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT)
    for turn, chosen in zip(turns, choices.unbind(1), strict=True):
        pixels = torch.where(chosen.view(-1, *[1] * (pixels.ndim - 1)), turn(pixels), pixels)
    return pixels.contiguous()
