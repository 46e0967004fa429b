"""Measures how fast training samples come and what limits them: ``python -m vsr.bench_data -opt options/1e-4.yml``."""

import resource
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch

from vsr import config
from vsr.config.command_line import options_parser
from vsr.config.options import DatasetOptions, LoaderOptions
from vsr.data.sets.clips import ClipCrops
from vsr.data.sources.base import Crop, FrameStore
from vsr.data.stream.loader import batches, to_device
from vsr.data.stream.sampler import TrainSampler
from vsr.utils.errors import UserError

_ADVICE = {
    "disk": "pack the frames: a packed crop reads a fraction of the bytes (scripts/pack_frames.py --form tiles)",
    "other programs": "the frames are in memory, but other programs keep the cores busy",
    "decoding": "pack the frames (scripts/pack_frames.py), or raise num_worker_per_gpu while there are idle cores"
    + ("" if find_spec("zlib_ng") else "; pip install zlib-ng makes PNGs a fourth faster"),
    "augmenting": "flips, rotations and stacking; raise num_worker_per_gpu while there are idle cores",
    "collecting": "handing samples to the training process; near the limit of one loader",
    "transfer": "copying to the GPU; pin_memory: true makes it faster, prefetch_mode: cuda overlaps it with computing",
}
# A sample that brings less than this from the disk did not wait for it.
_FROM_MEMORY = 0.02  # MB


class Stages(NamedTuple):
    """Milliseconds of one sample in one process: what a worker does."""

    waiting: float  # for the disk, or for a core that other programs use
    decoding: float
    augmenting: float


class TimedStore:
    """A frame store that sums the time of its reads."""

    def __init__(self, store: FrameStore) -> None:
        self.store = store
        self.root = store.root
        self.elapsed = self.worked = 0.0  # seconds on the clock and of the processor

    def read(self, key: str, crop: Crop | None = None) -> np.ndarray:
        """Returns a frame, or a rectangle of it."""
        elapsed, worked = time.perf_counter(), time.process_time()
        pixels = self.store.read(key, crop)
        self.elapsed += time.perf_counter() - elapsed
        self.worked += time.process_time() - worked
        return pixels


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the training set of an options file and prints what it found; returns the exit code."""
    parser = options_parser("vsr bench-data", "Measures how fast training samples come and what limits them.")
    parser.add_argument("--samples", type=int, default=200, help="samples per measurement (default: %(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", help="worker counts to try (default: 0, 1, 2 and the file's)")
    args = parser.parse_args(arguments)
    options = config.load(args.opt, args.set, need="train")
    if args.samples < 1:
        raise UserError(f"--samples {args.samples} is less than 1")
    if min(args.workers or [0]) < 0:
        raise UserError(f"--workers {min(args.workers)} is less than 0")
    train = options.datasets["train"]
    for line in report(train, options.manual_seed, args.samples, args.workers):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return 0


def report(train: DatasetOptions, seed: int, num_samples: int, workers: Sequence[int] | None) -> Iterator[str]:
    """Yields the lines of the report, as they are measured."""
    stages, megabytes = time_stages(train.data, train.loader, seed, num_samples)
    total = sum(stages)
    yield f"{train.name}: one process, {num_samples} samples: {total:.2f} ms each, {1000 / total:.1f} samples/s"
    for name, milliseconds in stages._asdict().items():
        yield f"  {name:<12}{milliseconds:8.2f} ms  {100 * milliseconds / total:3.0f} %"
    yield f"  read from the disk, not from memory: {megabytes:.2f} MB per sample"
    limit = max(stages._fields, key=lambda name: getattr(stages, name))
    if limit == "waiting":
        limit = "disk" if megabytes > _FROM_MEMORY else "other programs"
    tried = sorted({0, 1, 2, train.loader.num_worker_per_gpu} if workers is None else set(workers))
    for count in tried:
        speed = loader_speed(train, seed, num_samples, count)
        yield f"loader with {count} workers, batch {train.loader.batch_size_per_gpu}: {speed:.1f} samples/s"
        if count == 1 and speed < 500 / total:
            limit = "collecting"
    if torch.cuda.is_available():
        milliseconds = time_transfer(train, seed)
        yield f"copy to the GPU: {milliseconds:.2f} ms per sample"
        limit = "transfer" if milliseconds > total / max(1, train.loader.num_worker_per_gpu) else limit
    yield f"limit: {limit} ({_ADVICE[limit]})"


def time_stages(dataset: Any, loader: LoaderOptions, seed: int, num_samples: int) -> tuple[Stages, float]:
    """Returns where the time of a sample goes in one process, and the megabytes the disk delivered for it.

    A data set without frame stores counts as decoding throughout.
    """
    size = loader.batch_size_per_gpu
    sampler = TrainSampler(len(dataset), seed=seed)
    stores: list[TimedStore] = []
    if isinstance(dataset, ClipCrops):
        dataset.gt = TimedStore(dataset.gt)
        dataset.lq = None if dataset.lq is None else TimedStore(dataset.lq)
        stores = [store for store in (dataset.gt, dataset.lq) if store is not None]
    stream = batches(dataset, sampler, size, augment_later=loader.augment_on_gpu)
    next(stream)  # opens databases and files
    for store in stores:
        store.elapsed = store.worked = 0.0
    blocks = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    start, started = time.perf_counter(), time.process_time()
    count = -(-num_samples // size) * size
    for _ in range(count // size):
        next(stream)
    elapsed, worked = time.perf_counter() - start, time.process_time() - started
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_inblock - blocks) * 512 / 1e6 / count
    reading, decoding = elapsed, worked
    if stores:
        reading, decoding = sum(store.elapsed for store in stores), sum(store.worked for store in stores)
    per_sample = 1000 / count
    waiting = max(reading - decoding, 0.0) * per_sample
    return Stages(waiting, decoding * per_sample, (elapsed - reading) * per_sample), megabytes


def loader_speed(train: DatasetOptions, seed: int, num_samples: int, workers: int) -> float:
    """Returns the samples per second of a loader whose workers have started and filled their queues."""
    dataset, size = train.data, train.loader.batch_size_per_gpu
    sampler = TrainSampler(len(dataset), train.loader.dataset_enlarge_ratio, seed)
    later = train.loader.augment_on_gpu
    stream = batches(dataset, sampler, size, workers, train.loader.num_prefetch_queue, augment_later=later)
    warm_up = 1 + workers * (train.loader.num_prefetch_queue + 1)
    for _ in range(warm_up):
        next(stream)
    count = max(num_samples // size, 1)
    start = time.perf_counter()
    for _ in range(count):
        next(stream)
    return count * size / (time.perf_counter() - start)


def time_transfer(train: DatasetOptions, seed: int) -> float:
    """Returns the milliseconds per sample of copying a batch to the GPU."""
    dataset = train.data
    sampler, size = TrainSampler(len(dataset), seed=seed), train.loader.batch_size_per_gpu
    batch = next(batches(dataset, sampler, size, pin_memory=True, augment_later=train.loader.augment_on_gpu))
    times = []
    for _ in range(20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        to_device(batch, torch.device("cuda"))
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times) / size
