"""Batches on their way from a loader to a network."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import torch
from torch import Tensor

from vsr.utils.log import logger

Batch = dict[str, Any]  # tensors by name, and lists of texts such as "key"


def grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Yields lists of ``size`` batches from an endless stream."""
    iterator = iter(batches)
    while True:
        yield [next(iterator) for _ in range(size)]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Returns the batch on the device, augmented if that was left to it, its uint8 pixels as float32 in [0, 1].

    A batch that has been through this is returned as it is.
    """
    moved = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
    choices = moved.pop("augment", None)
    return {k: _floats(v, choices) if isinstance(v, Tensor) and v.dtype == torch.uint8 else v for k, v in moved.items()}


def _floats(pixels: Tensor, choices: Tensor | None) -> Tensor:
    pixels = pixels if choices is None else augmented(pixels, choices)
    return pixels.float().div_(255)


def augmented(pixels: Tensor, choices: Tensor) -> Tensor:
    """Returns each sample mirrored horizontally, then vertically, then transposed, where it is chosen.

    Args:
        pixels: (b, …, s, s).
        choices: (b, 3) bool.
    """
    turns = (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT)
    for turn, chosen in zip(turns, choices.unbind(1), strict=True):
        pixels = torch.where(chosen.view(-1, *[1] * (pixels.ndim - 1)), turn(pixels), pixels)
    return pixels.contiguous()


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
