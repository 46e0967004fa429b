r"""Training samples per second: BasicSR's REDS loader and ours, on the same clips, in one run.

    pip install --no-deps basicsr
    python benchmarks/data.py        # the demo set; --gt --lq --meta for others

A sample is 5 LQ frames 64 x 64 and 1 GT frame 256 x 256, augmented, as float tensors. The loaders take turns, several
rounds each, with the files in the page cache: what is measured is decoding and copying, not the disk. "MB" is what a
sample reads of its files or packs; with a cold cache, that is what the disk must deliver. "CPU ms" is the processor
time of a sample in one process, without workers. Without basicsr, our rows are
measured alone; with zlib-ng, the folder is read with it, too.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from datetime import date
from importlib.util import find_spec
from itertools import islice, product
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision.transforms.functional
from torch.utils.data import DataLoader, Dataset, Sampler

from vsr.data import IOBackend, REDSDataset, TrainSampler, open_store
from vsr.data.sources import images, packs
from vsr.data.sources.base import Crop
from vsr.data.sources.lmdb import LmdbStore, database
from vsr.data.sources.packs import HEADER_BYTES, TILE_SIZE, Form, read_header
from vsr.data.stream.loader import batches, to_device

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from preparation.pack_writer import PackPlan, write_pack

BATCH = 4
OPTIONS = {"num_frame": 5, "gt_size": 256, "scale": 4, "use_hflip": True, "use_rot": True, "random_reverse": False}
PACKED: dict[str, tuple[Form, Form]] = {  # the form of GT and of LQ
    "raw": ("raw", "raw"),
    "GT tiles, LQ raw": ("tiles", "raw"),
    "tiles": ("tiles", "tiles"),
}


class Loader(NamedTuple):
    """What is measured: a data set of ours or BasicSR's, and what inflates its PNGs or tiles."""

    dataset: Dataset
    inflater: ModuleType = zlib

    def start(self, workers: int, seed: int = 0) -> Iterator[dict[str, Any]]:
        """Returns its batches: of ours by the loader that training uses, up to the float tensors a network takes."""
        torch.set_num_threads(1)  # as in a worker
        images.inflater = packs.inflater = self.inflater
        if not isinstance(self.dataset, REDSDataset):
            return iter(DataLoader(self.dataset, BATCH, sampler=Draws(len(self.dataset), seed), num_workers=workers))
        loaded = batches(self.dataset, TrainSampler(len(self.dataset), seed=seed), BATCH, workers)
        return (to_device(batch, torch.device("cpu")) for batch in loaded)


class Draws(Sampler[int]):
    """The indices of our sampler, without keys."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        """Yields indices without end."""
        return (index for index, _ in TrainSampler(self.size, seed=self.seed))


def main() -> None:
    """Measures every loader and prints a table."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gt", type=Path, default=Path("datasets/demo/train_sharp"))
    parser.add_argument("--lq", type=Path, default=Path("datasets/demo/train_sharp_bicubic/X4"))
    parser.add_argument("--meta", type=Path, default=Path("datasets/demo/meta_info_train.txt"))
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tile-sizes", type=int, nargs="+", default=[TILE_SIZE], help="measure packs of these")
    parser.add_argument("--packs", type=Path, help="keep the packs here (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        loaders = our_loaders(options, options.packs or Path(folder))
        check_identical([loader.dataset for loader in loaders.values()])
        basicsr = basicsr_dataset(options)
        if basicsr is not None:
            loaders = {"basicsr, folder": Loader(basicsr), **loaders}
        speeds: dict[tuple[str, int], list[float]] = {(name, n): [] for name in loaders for n in options.workers}
        costs: dict[str, list[float]] = {name: [] for name in loaders}
        for number in range(options.rounds):
            for name, workers in speeds:
                speeds[name, workers].append(samples_per_second(loaders[name], workers, options.seconds))
            for name, loader in loaders.items():
                costs[name].append(processor_milliseconds(loader, number))
        report(loaders, speeds, costs, options)


def our_loaders(options: argparse.Namespace, folder: Path) -> dict[str, Loader]:
    """Returns our data set over the folder, and over packs made in ``folder``."""
    shared = {**OPTIONS, "meta_info_file": str(options.meta), "val_partition": "none"}
    frames = REDSDataset(str(options.gt), str(options.lq), **shared)
    loaders = {"vsr, folder": Loader(frames)}
    if find_spec("zlib_ng"):
        from zlib_ng import zlib_ng

        loaders["vsr, folder, zlib-ng"] = Loader(frames, zlib_ng)
    for tile_size, (name, forms) in product(options.tile_sizes, PACKED.items()):
        roots = []
        for side, form in zip((options.gt, options.lq), forms, strict=True):
            roots.append(folder / f"{side.name}_{form}{tile_size}.lmdb")
            make_pack(side, roots[-1], form, tile_size)
        name = f"vsr, {name}" + (f", side {tile_size}" if len(options.tile_sizes) > 1 else "")
        loaders[name] = Loader(REDSDataset(*map(str, roots), **shared, io_backend=IOBackend("lmdb")))
    return loaders


def make_pack(root: Path, target: Path, form: Form, tile_size: int) -> None:
    """Packs a folder, if that has not been done."""
    if not target.exists():
        store = open_store(root)
        keys = [f"{clip}/{frame}" for clip in store.clips() for frame in store.frames(clip)]
        write_pack(store, target, PackPlan(str(root), form, tile_size, keys), num_threads=os.cpu_count() or 1)


def basicsr_dataset(options: argparse.Namespace) -> Dataset | None:
    """Returns BasicSR's data set, None where it is not installed."""
    # BasicSR 1.4.2 imports a module that torchvision has removed.
    sys.modules["torchvision.transforms.functional_tensor"] = torchvision.transforms.functional
    try:
        from basicsr.data.reds_dataset import REDSDataset as BasicsrDataset
    except ModuleNotFoundError as error:
        print(f"basicsr is left out ({error}); pip install --no-deps basicsr", file=sys.stderr)
        return None
    roots = {"dataroot_gt": str(options.gt), "dataroot_lq": str(options.lq), "dataroot_flow": None}
    lists = {"meta_info_file": str(options.meta), "val_partition": "official", "interval_list": [1]}
    return BasicsrDataset({**OPTIONS, **roots, **lists, "io_backend": {"type": "disk"}})


def check_identical(datasets: list[REDSDataset]) -> None:
    """Stops unless all data sets give the same samples."""
    for index, key in islice(TrainSampler(len(datasets[0])), 20):
        samples = [dataset.read(index, key) for dataset in datasets]
        assert all(np.array_equal(sample[side], samples[0][side]) for sample in samples for side in ("lq", "gt")), key
    print(f"{len(datasets)} stores of ours give identical samples")


def samples_per_second(loader: Loader, workers: int, seconds: float) -> float:
    """Returns the speed of a loader, after its workers have started and filled their queues."""
    stream = loader.start(workers)
    for _ in range(2 + 4 * workers):
        next(stream)
    start = time.perf_counter()
    count = 0
    while time.perf_counter() - start < seconds:
        batch = next(stream)
        assert batch["gt"].shape[0] == BATCH and batch["gt"].shape[-3:] == (3, 256, 256)
        assert batch["lq"].dtype == batch["gt"].dtype == torch.float32
        count += BATCH
    return count / (time.perf_counter() - start)


def processor_milliseconds(loader: Loader, seed: int, number: int = 15) -> float:
    """Returns the processor time of a sample without workers: what else runs on the machine hardly changes it."""
    stream = loader.start(0, seed)
    next(stream)
    start = time.process_time()
    for _ in range(number):
        next(stream)
    return 1000 * (time.process_time() - start) / number / BATCH


def bytes_read(data: bytes, crop: Crop) -> int:
    """Returns how many bytes of a packed frame a crop needs."""
    frame = read_header(data)
    size, (grid_h, grid_w) = frame.tile_size, frame.grid
    rows = range(crop.top // size, (crop.top + crop.height - 1) // size + 1)
    first, last = crop.left // size, (crop.left + crop.width - 1) // size + 1
    if frame.form == "raw":
        return HEADER_BYTES + len(rows) * (last - first) * size * size * 3
    offsets = np.frombuffer(data, "<u4", count=grid_h * grid_w + 1, offset=HEADER_BYTES)
    tiles = sum(int(offsets[row * grid_w + last] - offsets[row * grid_w + first]) for row in rows)
    return HEADER_BYTES + offsets.nbytes + tiles


def megabytes_read(dataset: REDSDataset) -> float:
    """Returns what a sample reads on average: whole files of a folder, the touched tiles of a pack."""
    rng = np.random.default_rng(0)
    total = 0
    frames = dataset.clips[0].frames
    for frame in frames:
        for store, side, count in ((dataset.gt, 256, 1), (dataset.lq, 64, 5)):
            key = f"{dataset.clips[0].name}/{frame}"
            top, left = (int(rng.integers(length - side + 1)) for length in store.size(key))
            if isinstance(store, LmdbStore):
                with database(store.root.resolve()).begin() as transaction:
                    value = transaction.get(key.encode())
                total += count * bytes_read(value, Crop(top, left, side, side))
            else:
                total += count * (store.root / f"{key}.png").stat().st_size
    return total / len(frames) / 1e6


def gigabytes(root: Path) -> float:
    """Returns the size of a data root on disk."""
    return sum(file.stat().st_size for file in root.rglob("*") if file.is_file()) / 1e9


def spread(values: list[float], digits: int) -> str:
    """Returns "median (smallest - largest)"."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} - {max(values):.{digits}f})"


def report(
    loaders: dict[str, Loader],
    speeds: dict[tuple[str, int], list[float]],
    costs: dict[str, list[float]],
    options: argparse.Namespace,
) -> None:
    """Prints the table."""
    first = next(iter(loaders))
    print(f"\n{date.today()}, {platform.machine()}, {os.cpu_count()} CPU cores, torch {torch.__version__}; median of "
          f"{options.rounds} rounds of {options.seconds:g} s (slowest - fastest)\n")  # fmt: skip
    columns = ["loader", *(f"samples/s, {count} worker{'s' * (count != 1)}" for count in options.workers)]
    columns += [f"of {first}, {options.workers[0]} worker", "CPU ms per sample", "MB per sample", "GT + LQ, GB"]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    base = statistics.median(speeds[first, options.workers[0]])
    for name, (dataset, _) in loaders.items():
        cells = [spread(speeds[name, workers], 1) for workers in options.workers]
        ratio = statistics.median(speeds[name, options.workers[0]]) / base
        roots = (dataset.gt.root, dataset.lq.root) if isinstance(dataset, REDSDataset) else (options.gt, options.lq)
        size = sum(gigabytes(root) for root in roots)
        # BasicSR reads whole files, too.
        read = megabytes_read(dataset if isinstance(dataset, REDSDataset) else loaders["vsr, folder"].dataset)
        cells += [f"{ratio:.1f} x", spread(costs[name], 2), f"{read:.2f}", f"{size:.3f}"]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
