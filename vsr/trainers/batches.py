"""Batches on their way from a loader to a network."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

Batch = dict[str, Any]  # tensors by name, and lists of texts such as "key"


def grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Yields lists of ``size`` batches from an endless stream."""
    iterator = iter(batches)
    while True:
        yield [next(iterator) for _ in range(size)]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Returns the batch with its tensors on the device, and its uint8 pixels as float32 in [0, 1]."""
    moved = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
    return {k: v.float().div_(255) if isinstance(v, Tensor) and v.dtype == torch.uint8 else v for k, v in moved.items()}
