"""Batches read and copied ahead of the step that they are for."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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


def prefetched(
    batches: Iterator[Batch], mode: Literal["cpu", "cuda"] | None, num_batches: int, device: torch.device
) -> Iterator[Batch]:
    """Returns the batches, read or copied ahead as ``prefetch_mode`` asks; which they are does not change.

    Args:
        batches: from a loader.
        mode: see LoaderOptions.
        num_batches: kept ready by ``cpu``.
        device: where they will be used.
    """
    if mode == "cpu":
        return read_ahead(batches, num_batches)
    if mode == "cuda" and device.type == "cuda":
        return copied_ahead(batches, device)
    if mode == "cuda":
        logger.info("prefetch_mode: cuda has no effect, since training runs on the CPU")
    return batches


def read_ahead(batches: Iterator[Batch], num_batches: int) -> Iterator[Batch]:
    """Yields the batches; a thread of this process reads the next ones meanwhile."""
    batch = next(batches, None)  # here, and not in the thread: now the loader starts its workers
    coming: deque[Future[Batch | None]] = deque()
    with ThreadPoolExecutor(1) as thread:
        try:
            while batch is not None:
                while len(coming) < num_batches:
                    coming.append(thread.submit(next, batches, None))
                yield batch
                batch = coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()


def copied_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yields the batches on the GPU; the next one is copied and converted while the present one is computed."""
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
    """Returns a batch that may be used: the current stream waits for its copy, and no longer copy."""
    current = torch.cuda.current_stream()
    current.wait_event(copied)
    for value in batch.values():
        if isinstance(value, Tensor):
            value.record_stream(current)  # or its memory would be given to a later copy while it is still read
    return batch
