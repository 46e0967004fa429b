"""Batches from data sets: worker processes read them, to_device makes them what a network takes, on GPUs also ahead."""

import fcntl
import random
import signal
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset

from vsr.contracts import Keyed, SampleKey
from vsr.data.degrade.apply import Degradation, degraded_sample
from vsr.utils import rng
from vsr.utils.allocator import keep_freed_memory
from vsr.utils.errors import UserError
from vsr.utils.log import logger
from vsr.utils.signals import STOPPING

Batch = dict[str, Any]  # tensors by name, and lists of texts such as "key"

_CPU = torch.device("cpu")


def batches(
    dataset: Any,
    sampler: Iterable[Any] | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    prefetch: int = 2,
    pin_memory: bool = False,
    degradation: Degradation | None = None,
) -> Generator[Batch]:
    """Yields batches; of our training sets, of uint8 pixels.

    Args:
        dataset: map-style. Keys of the sampler determine the random choices: a Keyed data set is read by
            ``read(index, key)``; any other by ``dataset[index]``, with the global generators of Python, NumPy and
            PyTorch seeded by the key for that call. The batch then has ``keys`` (b, 3) int64: draw, epoch, seed.
        sampler: yields indices, or pairs of an index and a SampleKey; None is every index in order.
        batch_size: samples of a batch; arrays are stacked, other values become lists.
        num_workers: processes that read ahead; 0 reads in this one.
        prefetch: batches that each worker reads ahead.
        pin_memory: returns page-locked tensors.
        degradation: makes LQ frames of GT frames where samples are read, see :mod:`vsr.data.degrade.apply`.

    Raises:
        UserError: a sample could not be read.
    """
    draws: Any = range(len(dataset)) if sampler is None else sampler
    loader = DataLoader(
        _Reader(dataset, degradation),
        batch_size=None,  # the reader makes batches
        sampler=BatchSampler(draws, batch_size, drop_last=False),
        num_workers=num_workers,
        prefetch_factor=prefetch if num_workers else None,
        worker_init_fn=_start_worker if num_workers else None,
        pin_memory=pin_memory,
        generator=torch.default_generator.clone_state(),  # of workers' seeds: drawing from itself would shift dropout
    )
    stream = iter(loader)
    if num_workers and sys.platform == "linux":
        _widen_pipe(stream)
    passed_over: Counter[str] = Counter()
    try:
        for batch in stream:
            if isinstance(batch, UserError):
                raise batch
            if isinstance(batch, _Columns):
                columns = batch.columns.items()
                batch = {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in columns}
            for message in (message for messages in batch.pop("passed_over", ()) for message in messages):
                passed_over[message] += 1  # here, since workers count only their own, and do not all reach the log
                if passed_over[message].bit_count() == 1:  # the 1st, 2nd, 4th, … time: a training has many epochs
                    logger.warning("on_bad_frame: skip: %s (bad samples so far: %d)", message, passed_over.total())
            yield batch
    finally:
        # A traceback keeps the stream alive, and Python would wait at exit for workers that ignore SIGTERM.
        if num_workers:
            stream._shutdown_workers()  # type: ignore[attr-defined]  # of the iterator with workers


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Returns the batch on the device, its uint8 pixels as float32 in [0, 1]; ``keys`` stay on the CPU.

    A batch that has been through this is returned as it is.
    """
    moved = dict(batch)
    for name, value in batch.items():
        if isinstance(value, Tensor) and name != "keys":
            moved[name] = value.to(device, non_blocking=True)
            if value.dtype == torch.uint8:
                moved[name] = moved[name].float().div_(255)
    return moved


def grouped(batches: Iterable[Batch], size: int) -> Generator[list[Batch]]:
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


def to_planes(frames: np.ndarray) -> Tensor:
    """Returns frames (…, h, w, c) as a tensor (…, c, h, w) of their dtype, uint8 or uint16."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3)))


def to_unit_range(pixels: Tensor) -> Tensor:
    """Returns uint8 or uint16 pixels as float32 in [0, 1]."""
    return pixels.float().div_(torch.iinfo(pixels.dtype).max)


@dataclass
class _Columns:
    """A batch by name: arrays, and lists of texts.

    Workers send arrays through a pipe. Tensors would need shared memory, which takes more processor time (2.1 ms
    against 1.3 ms a sample of REDS) and may be scarce: containers have 64 MB, and when it is full, the loader hangs.
    """

    columns: dict[str, Any]

    def pin_memory(self) -> Batch:
        """Returns the batch as page-locked tensors; DataLoader calls it, with workers in a thread of its own."""
        arrays = {name: value for name, value in self.columns.items() if isinstance(value, np.ndarray)}
        return {**self.columns, **{name: torch.from_numpy(array).pin_memory() for name, array in arrays.items()}}


class _Reader(Dataset[Any]):
    """Reads a list of draws as a batch. Errors are returned: one raised in a worker arrives as a traceback."""

    def __init__(self, dataset: Any, degradation: Degradation | None) -> None:
        self.dataset, self.is_keyed, self.degradation = dataset, isinstance(dataset, Keyed), degradation

    def __getitem__(self, draws: list[Any]) -> _Columns | UserError:
        samples, keys = [], []
        try:
            for draw in draws:
                index, key = draw if isinstance(draw, tuple) else (draw, None)
                if key is None:
                    sample = self.dataset[index]
                elif self.is_keyed:
                    sample = self.dataset.read(index, key)
                else:
                    with _seeded(key):
                        sample = self.dataset[index]
                if not isinstance(sample, dict):
                    text = f"returns a {type(sample).__name__} as a sample; expected a dict, such as of lq, gt and key"
                    return UserError(f"{type(self.dataset).__name__} {text}")
                if self.degradation is not None and key is not None:
                    sample = degraded_sample(sample, key, self.degradation)
                samples.append(sample)
                keys += [key] if key is not None else []
        except (ValueError, OSError, UserError) as error:
            return UserError(str(error))
        columns: dict[str, Any] = {"keys": np.array(keys, np.int64)} if keys else {}
        try:
            for name, value in samples[0].items():
                values = [sample[name] for sample in samples]
                if isinstance(value, Tensor | np.ndarray):
                    arrays = [np.asarray(value) for value in values]
                    # Pixels are views of frames (h, w, c) until here, and left to itself np.stack keeps their order.
                    values = np.stack(arrays, out=np.empty((len(arrays), *arrays[0].shape), arrays[0].dtype))
                columns[name] = values
        except (ValueError, KeyError, TypeError) as error:
            names = ", ".join(str(sample.get("key")) for sample in samples)
            return UserError(f"the samples {names} make no batch, as they need the same names and sizes: {error}")
        return _Columns(columns)


def _arrived(batch: Batch, copied: torch.Event | torch.cuda.Event) -> Batch:
    """Makes the current stream wait for this batch's copy only, then returns the batch."""
    current = torch.cuda.current_stream()
    current.wait_event(copied)
    for value in batch.values():
        if isinstance(value, Tensor):
            value.record_stream(current)  # or its memory would be given to a later copy while it is still read
    return batch


@contextmanager
def _seeded(key: SampleKey) -> Iterator[None]:
    """Seeds the global generators of Python, NumPy and PyTorch (of its CPU) while entered."""
    state = rng.get_state(_CPU)
    number = int(key.rng().integers(2**63))
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.default_generator.manual_seed(number)
    try:
        yield
    finally:
        rng.set_state(state, _CPU)


def _widen_pipe(stream: Any) -> None:
    """Enlarges the workers' pipe to hold a whole batch: with Linux's 64 KB, packed frames load at a third of the speed.

    A worker and its reader would alternate 16 times for a batch of 1 MB, each time waiting for a core.
    """
    with suppress(OSError, AttributeError):  # the system may allow less; the name is PyTorch's own
        fcntl.fcntl(stream._worker_result_queue._reader.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)  # granted to every user


def _start_worker(worker: int) -> None:
    for number in STOPPING:  # a worker that ends would stop the main process before it has saved a state
        signal.signal(number, signal.SIG_IGN)
    keep_freed_memory()  # a batch's pages are asked for again and again: half of a worker's time with packed frames
