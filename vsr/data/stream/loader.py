"""Batches from data sets: worker processes, and errors of one frame told as one message."""

import fcntl
import logging
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vsr.data.sets.pairs import augmented
from vsr.data.stream.augment import Augmentation
from vsr.utils.allocator import keep_freed_memory
from vsr.utils.errors import UserError
from vsr.utils.signals import leave_signals_to_the_main_process

_PIPE_BYTES = 1 << 20  # what Linux allows every user

_log = logging.getLogger(__name__)


class Failure(NamedTuple):
    """What went wrong while a sample was read, carried to the process that can tell it."""

    message: str


class _Guarded(Dataset[Any]):
    """A data set whose unreadable samples become failures; exceptions would drown in their worker's traceback."""

    def __init__(self, dataset: Any, read: Callable[[Any], Any]) -> None:
        self.dataset = dataset
        self.read = read

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.read(key)
        except (ValueError, OSError) as error:
            return Failure(str(error))


class _Batch:
    """A batch, or a sample, by name: arrays, and texts or lists of them.

    Arrays come from a worker through a pipe. Tensors would come through fresh shared memory, whose pages and file
    handles cost more than the copy: of 4 samples of REDS's size, 2.1 ms of processor time each against 1.3 ms. And
    there may be little of it: a container has 64 MB by default, and where it ends, PyTorch's loader waits for ever.
    """

    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns = columns

    def tensors(self) -> dict[str, Any]:
        """Returns the batch with its arrays as tensors."""
        return {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in self.columns.items()}

    def pin_memory(self) -> dict[str, Any]:
        """Returns the batch as page-locked tensors; DataLoader calls it, with workers in a thread of its own."""
        return {name: v.pin_memory() if isinstance(v, Tensor) else v for name, v in self.tensors().items()}


def batches(
    dataset: Any,
    sampler: Iterable[Any] | None = None,
    batch_size: int | None = None,
    num_workers: int = 0,
    prefetch: int = 2,
    pin_memory: bool = False,
    augment_later: bool = False,
) -> Generator[dict[str, Any]]:
    """Yields batches, or single samples without a batch size; of a training set, batches of uint8 pixels.

    Args:
        dataset: map-style; its keys are the sampler's.
        sampler: which samples, in which order; None is every sample in order.
        batch_size: samples of a batch; the tensors are stacked, the texts become lists.
        num_workers: processes that read ahead; 0 reads in this one.
        prefetch: batches that each worker reads ahead.
        pin_memory: returns page-locked tensors.
        augment_later: leaves the augmentation to whoever moves the batch to its device; its "augment" (b, 3) says
            which samples are mirrored horizontally, vertically, and transposed.

    Raises:
        UserError: a sample could not be read, or the data set cannot leave its augmentation to others.
    """
    loader = DataLoader(
        _Guarded(dataset, _reader(dataset, augment_later) if batch_size else dataset.__getitem__),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        prefetch_factor=prefetch if num_workers else None,
        collate_fn=_collate if batch_size else _single,
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
            if isinstance(batch, Failure):
                raise UserError(batch.message)
            if isinstance(batch, _Batch):
                batch = batch.tensors()
            for message in (message for messages in batch.pop("passed_over", ()) for message in messages):
                passed_over[message] += 1  # here, since workers count only their own, and do not all reach the log
                if passed_over[message].bit_count() == 1:  # the 1st, 2nd, 4th, … time: a training has many epochs
                    _log.warning("on_bad_frame: skip: %s (bad samples so far: %d)", message, passed_over.total())
            yield batch
    finally:
        # An error's traceback would keep the stream, and Python, at its end, wait for workers that ignore SIGTERM.
        if num_workers:
            stream._shutdown_workers()  # type: ignore[attr-defined]  # of the iterator with workers


def augment_problem(dataset: Any) -> str | None:
    """Returns why a data set cannot leave its augmentation to the GPU, None if it can."""
    if hasattr(dataset, "read_raw"):
        return None
    return f"{type(dataset).__name__} has no augmentation to leave to the GPU; remove it"


def _reader(dataset: Any, augment_later: bool) -> Callable[[Any], Any]:
    """Returns the function that reads a sample as it is to leave a worker."""
    read = getattr(dataset, "read_raw", None)
    if augment_later and (problem := augment_problem(dataset)) is not None:
        raise UserError(f"augment_on_gpu: {problem}")
    if read is None:
        return dataset.__getitem__
    return read if augment_later else partial(_read_augmented, dataset)


def _read_augmented(dataset: Any, key: Any) -> Any:
    return augmented(dataset.read_raw(key))


def _collate(samples: list[Any]) -> "_Batch | Failure":
    """Returns the samples as a batch, or the first failure."""
    failure = next((sample for sample in samples if isinstance(sample, Failure)), None)
    try:
        return failure or _Batch({name: _stacked([sample[name] for sample in samples]) for name in samples[0]})
    except (ValueError, KeyError, TypeError) as error:
        keys = ", ".join(str(sample.get("key")) for sample in samples)
        return Failure(f"the samples {keys} make no batch, as they need the same names and sizes: {error}")


def _stacked(values: list[Any]) -> np.ndarray | list[Any]:
    if not isinstance(values[0], Tensor | np.ndarray | Augmentation):
        return values
    arrays = [np.asarray(value) for value in values]
    # Planes are views of frames (h, w, c) until here, and left to itself np.stack keeps their order.
    return np.stack(arrays, out=np.empty((len(arrays), *arrays[0].shape), arrays[0].dtype))


def _single(sample: Any) -> "_Batch | Failure":
    if isinstance(sample, Failure):
        return sample
    return _Batch({name: value.numpy() if isinstance(value, Tensor) else value for name, value in sample.items()})


def _widen_pipe(stream: Any) -> None:
    """Lets a batch lie in the workers' pipe whole.

    In Linux's 64 KB a worker and its reader take turns 16 times for a batch of 1 MB, each time waiting for a core: on
    a busy machine that is a third of the speed of packed frames.
    """
    with suppress(OSError, AttributeError):  # the system may allow less; the name is PyTorch's own
        fcntl.fcntl(stream._worker_result_queue._reader.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _start_worker(worker: int) -> None:
    leave_signals_to_the_main_process()
    keep_freed_memory()  # a batch's pages are asked for again and again: half of a worker's time with packed frames
