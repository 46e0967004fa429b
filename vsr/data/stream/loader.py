"""Batches from data sets: worker processes read them, and to_device makes them what a network takes."""

import fcntl
import logging
import random
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset

from vsr.contracts import Keyed, SampleKey, data_spec
from vsr.utils import rng
from vsr.utils.allocator import keep_freed_memory
from vsr.utils.errors import UserError
from vsr.utils.signals import leave_signals_to_the_main_process

Batch = dict[str, Any]  # tensors by name, and lists of texts such as "key"

_PIPE_BYTES = 1 << 20  # Linux grants every user so many
_CPU = torch.device("cpu")

_log = logging.getLogger(__name__)


def batches(
    dataset: Any,
    sampler: Iterable[Any] | None = None,
    batch_size: int | None = None,
    num_workers: int = 0,
    prefetch: int = 2,
    pin_memory: bool = False,
    augment_later: bool = False,
) -> Generator[Batch]:
    """Yields batches, or single samples without a batch size; of our training sets, batches of uint8 pixels.

    Args:
        dataset: map-style. Where the sampler yields keys, their random choices follow from them: a Keyed data set is
            read by ``read(index, key)``; any other by ``dataset[index]``, with the global generators of Python, NumPy
            and PyTorch seeded by the key for that call. The batch then has ``keys`` (b, 3) int64: draw, epoch, seed.
        sampler: yields indices, or pairs of an index and a SampleKey; None is every index in order.
        batch_size: samples of a batch; arrays are stacked, other values become lists.
        num_workers: processes that read ahead; 0 reads in this one.
        prefetch: batches that each worker reads ahead.
        pin_memory: returns page-locked tensors.
        augment_later: leaves flips and transposition to :func:`to_device`; ``augment`` (b, 3) says which.

    Raises:
        UserError: a sample could not be read, or the data set does not support ``augment_later``.
    """
    if augment_later and (problem := augment_problem(dataset)) is not None:
        raise UserError(f"augment_on_gpu: {problem}")
    draws = range(len(dataset)) if sampler is None else sampler
    loader = DataLoader(
        _Reader(dataset, augment_later),
        batch_size=None,  # the reader makes batches
        sampler=BatchSampler(draws, batch_size, drop_last=False) if batch_size else draws,
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
            if isinstance(batch, _Failure):
                raise UserError(batch.message)
            if isinstance(batch, _Columns):
                columns = batch.columns.items()
                batch = {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in columns}
            for message in (message for messages in batch.pop("passed_over", ()) for message in messages):
                passed_over[message] += 1  # here, since workers count only their own, and do not all reach the log
                if passed_over[message].bit_count() == 1:  # the 1st, 2nd, 4th, … time: a training has many epochs
                    _log.warning("on_bad_frame: skip: %s (bad samples so far: %d)", message, passed_over.total())
            yield batch
    finally:
        # An error's traceback would keep the stream, and Python, at its end, wait for workers that ignore SIGTERM.
        if num_workers:
            stream._shutdown_workers()  # type: ignore[attr-defined]  # of the iterator with workers


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Returns the batch on the device, augmented if that was left to it, its uint8 pixels as float32 in [0, 1].

    ``keys`` stay on the CPU. A batch that has been through this is returned as it is.
    """
    tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor) and name != "keys"}
    moved = {**batch, **{name: value.to(device, non_blocking=True) for name, value in tensors.items()}}
    turns = moved.pop("augment", None)
    for name, value in moved.items():
        if isinstance(value, Tensor) and value.dtype == torch.uint8:
            moved[name] = (value if turns is None else augmented_batch(value, turns)).float().div_(255)
    return moved


def augmented_batch(pixels: Tensor, turns: Tensor) -> Tensor:
    """Returns each sample mirrored horizontally, then vertically, then transposed, where it is chosen.

    Args:
        pixels: (b, …, s, s).
        turns: (b, 3) bool.
    """
    for number, turned in enumerate((lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT)):
        chosen = turns[:, number].view(-1, *[1] * (pixels.ndim - 1))
        pixels = torch.where(chosen, turned(pixels), pixels)
    return pixels.contiguous()


def to_planes(frames: np.ndarray) -> Tensor:
    """Returns uint8 frames (…, h, w, c) as a uint8 tensor (…, c, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3)))


def to_unit_range(pixels: Tensor) -> Tensor:
    """Returns uint8 pixels as float32 in [0, 1]."""
    return pixels.float().div_(255)


def augment_problem(dataset: Any) -> str | None:
    """Returns why a data set cannot leave its augmentation to the GPU, None if it can."""
    if isinstance(dataset, Keyed) and data_spec(dataset).crop_size is not None:
        return None
    return f"{type(dataset).__name__} has no augmentation to leave to the GPU; remove it"


@dataclass
class _Failure:
    """An error of reading, carried to the main process: raised in a worker, it would arrive as a traceback."""

    message: str


@dataclass
class _Columns:
    """A batch, or a sample, by name: arrays, and texts or lists of them.

    Arrays come from a worker through a pipe. Tensors would come through fresh shared memory, whose pages and file
    handles cost more than the copy: of 4 samples of REDS's size, 2.1 ms of processor time each against 1.3 ms. And
    there may be little of it: a container has 64 MB by default, and when it is full, PyTorch's loader hangs.
    """

    columns: dict[str, Any]

    def pin_memory(self) -> Batch:
        """Returns the batch as page-locked tensors; DataLoader calls it, with workers in a thread of its own."""
        arrays = {name: value for name, value in self.columns.items() if isinstance(value, np.ndarray)}
        return {**self.columns, **{name: torch.from_numpy(array).pin_memory() for name, array in arrays.items()}}


class _Reader(Dataset[Any]):
    """Reads what a sampler asks for: a list of draws as a batch, a single draw as a sample."""

    def __init__(self, dataset: Any, augment_later: bool) -> None:
        self.dataset, self.augment_later = dataset, augment_later
        self.is_keyed = isinstance(dataset, Keyed)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draws: Any) -> _Columns | _Failure:
        samples, keys = [], []
        try:
            for draw in draws if isinstance(draws, list) else [draws]:
                index, key = draw if isinstance(draw, tuple) else (draw, None)
                if key is None:
                    sample = self.dataset[index]
                elif self.is_keyed:
                    sample = self.dataset.read(index, key)
                    if "augment" in sample and not self.augment_later:
                        hflip, vflip, transpose = sample.pop("augment")
                        for side in {"lq", "gt"} & sample.keys():
                            pixels = sample[side][..., :: -1 if vflip else 1, :: -1 if hflip else 1]
                            sample[side] = pixels.swapaxes(-2, -1) if transpose else pixels
                else:
                    with _seeded(key):
                        sample = self.dataset[index]
                if not isinstance(sample, dict):
                    text = f"returns a {type(sample).__name__} as a sample; expected a dict, such as of lq, gt and key"
                    return _Failure(f"{type(self.dataset).__name__} {text}")
                samples.append(sample)
                keys += [key] if key is not None else []
        except (ValueError, OSError) as error:
            return _Failure(str(error))
        if not isinstance(draws, list):
            return _Columns({name: v.numpy() if isinstance(v, Tensor) else v for name, v in samples[0].items()})
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
            return _Failure(f"the samples {names} make no batch, as they need the same names and sizes: {error}")
        return _Columns(columns)


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
    """Lets a whole batch lie in the workers' pipe.

    With Linux's 64 KB, a worker and its reader alternate 16 times for a batch of 1 MB, each time waiting for a core: on
    a busy machine that is a third of the speed of packed frames.
    """
    with suppress(OSError, AttributeError):  # the system may allow less; the name is PyTorch's own
        fcntl.fcntl(stream._worker_result_queue._reader.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _start_worker(worker: int) -> None:
    leave_signals_to_the_main_process()
    keep_freed_memory()  # a batch's pages are asked for again and again: half of a worker's time with packed frames
