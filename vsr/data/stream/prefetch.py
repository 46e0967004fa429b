"""Batches copied to the GPU ahead of their step."""

from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor

from vsr.data.stream.loader import Batch, to_device
from vsr.utils.log import logger


def grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Yields lists of ``size`` batches from an endless stream."""
    iterator = iter(batches)
    while True:
        yield [next(iterator) for _ in range(size)]


def prefetched(batches: Iterator[Batch], mode: Literal["cpu", "cuda"] | None, device: torch.device) -> Iterator[Batch]:
    """Returns the same batches, copied to ``device`` ahead if ``prefetch_mode`` is ``cuda``; see LoaderOptions."""
    if mode == "cuda" and device.type == "cuda":
        return copied_ahead(batches, device)
    if mode == "cuda":
        logger.info("prefetch_mode: cuda has no effect, since training runs on the CPU")
    return batches


def copied_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yields the batches on the GPU; the next one is copied and converted while the current one is computed."""
    side = torch.cuda.Stream(device)
    coming = None
    for batch in batches:
        with torch.cuda.stream(side):
            following = to_device(batch, device), side.record_event()
        if coming is not None:
            yield _arrived(*coming)
        coming = following
    if coming is not None:
        yield _arrived(*coming)


def _arrived(batch: Batch, copied: torch.Event | torch.cuda.Event) -> Batch:
    """Makes the current stream wait for this batch's copy only, then returns the batch."""
    current = torch.cuda.current_stream()
    current.wait_event(copied)
    for value in batch.values():
        if isinstance(value, Tensor):
            value.record_stream(current)  # or its memory would be given to a later copy while it is still read
    return batch
