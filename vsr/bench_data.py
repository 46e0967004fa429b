"""Measures how fast training samples come and what limits them: ``python -m vsr.bench_data -opt options/1e-4.yml``."""

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from vsr import config
from vsr.config.command_line import options_parser
from vsr.config.options import DatasetOptions, LoaderOptions
from vsr.data.stream.loader import batches
from vsr.data.stream.sampler import TrainSampler
from vsr.utils.errors import UserError, exit_cleanly

ADVICE = {
    "disk": "pack the frames: a packed crop reads a fraction of the bytes (scripts/pack_frames.py --form tiles)",
    "other programs": "the frames are in memory, but other programs keep the cores busy",
    "decoding": "pack the frames (scripts/pack_frames.py), or raise num_worker_per_gpu while there are idle cores"
    + ("" if find_spec("zlib_ng") else "; pip install zlib-ng makes PNGs a fourth faster"),
    "collecting": "handing samples to the training process; near the limit of one loader",
}
FROM_MEMORY = 0.02  # MB; a sample that brings less than this from the disk did not wait for it


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the training set of an options file, prints the report and returns the exit code."""
    parser = options_parser("vsr bench-data", "Measures how fast training samples come and what limits them.")
    parser.add_argument("--samples", type=int, default=200, help="samples per measurement (default: %(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", help="worker counts to try (default: 0, 1, 2 and the file's)")
    args = parser.parse_args(arguments)
    options = config.load(args.opt, args.set, need="train")
    if args.samples < 1:
        raise UserError(f"--samples {args.samples} is less than 1")
    if min(args.workers or [0]) < 0:
        raise UserError(f"--workers {min(args.workers)} is less than 0")
    for line in report(options.datasets["train"], options.manual_seed, args.samples, args.workers):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return 0


def report(train: DatasetOptions, seed: int, num_samples: int, workers: Sequence[int] | None) -> Iterator[str]:
    """Yields the lines of the report, as they are measured."""
    alone = measure(train.data, train.loader, seed, num_samples)
    waiting = max(alone.elapsed - alone.worked, 0.0)
    yield f"{train.name}: one process, {num_samples} samples: {alone.elapsed:.2f} ms each"
    yield f"  waiting {waiting:.2f} ms, decoding and augmenting {alone.worked:.2f} ms"
    yield f"  read from the disk, not from memory: {alone.megabytes:.2f} MB per sample"
    limit = "decoding" if waiting < alone.worked else "disk" if alone.megabytes > FROM_MEMORY else "other programs"
    for count in sorted({0, 1, 2, train.loader.num_worker_per_gpu} if workers is None else set(workers)):
        cost = measure(train.data, train.loader, seed, num_samples, count) if count else alone
        speed, size = 1000 / cost.elapsed, train.loader.batch_size_per_gpu
        yield f"loader with {count} workers, batch {size}: {speed:.1f} samples/s"
        if count == 1 and cost.elapsed > 2 * alone.elapsed:
            limit = "collecting"
    yield f"limit: {limit} ({ADVICE[limit]})"


class Cost(NamedTuple):
    """Of one sample: milliseconds on the clock and of processor time, and megabytes from the disk, of this process."""

    elapsed: float
    worked: float
    megabytes: float


def measure(dataset: Any, loader: LoaderOptions, seed: int, num_samples: int, workers: int = 0) -> Cost:
    """Returns the cost of a sample from a loader whose workers have started and filled their queues."""
    size, prefetch = loader.batch_size_per_gpu, loader.num_prefetch_queue
    sampler = TrainSampler(len(dataset), loader.dataset_enlarge_ratio, seed)
    stream = batches(dataset, sampler, size, workers, prefetch, degradation=loader.degradation_on("loader"))
    for _ in range(1 + workers * (prefetch + 1)):
        next(stream)  # the first one opens databases and files
    blocks = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    start, started = time.perf_counter(), time.process_time()
    count = -(-num_samples // size)
    for _ in range(count):
        next(stream)
    elapsed, worked = time.perf_counter() - start, time.process_time() - started
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_inblock - blocks) * 512 / 1e6
    return Cost(*(value / (count * size) for value in (1000 * elapsed, 1000 * worked, megabytes)))


if __name__ == "__main__":
    exit_cleanly(main)
