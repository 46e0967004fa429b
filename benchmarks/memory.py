"""Times the memory reads beside their naive forms, and measures peak memory: ``python benchmarks/memory.py``.

Every measurement is a process of its own, so that peaks don't add up: it builds the module, runs a small map to warm
up, and then either notes how far the memory in use rises in one pass, or times a few (with freed memory kept, as
``vsr.train`` does). On a CPU the peak is the resident set's (Linux; the allocator is told to give freed blocks back at
once), on a GPU ``torch.cuda.max_memory_allocated``. The naive forms are those of ``tests/memory_oracle.py``: candidates
by ``unfold``. Where those cannot fit, they are not run and their size is given. On a machine shared with others the CPU
seconds of one thread (``OMP_NUM_THREADS=1``) are what to compare; the seconds show how shared it was.

``pixsentence`` has a benchmark of its own, ``whole_space.py``. ``--read local_window`` times the operator behind
``pixwise`` alone, which reads its keys: ``unfold``, the ``loop`` over shifts in plain PyTorch, and the ``fused``
kernels.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from machine import machine
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))  # the naive forms
MIB = 2**20


class Case(NamedTuple):
    """One line of the table."""

    memory: str
    form: str  # vsr | naive; of the local window unfold | loop | fused
    crop: int
    size: tuple[int, int]
    channels: int = 128
    backward: bool = True
    repeats: int = 3


COLUMNS = ["fastest s", "median s", "spread s", "CPU s", "peak extra MiB", "of the features"]
LARGE, TRAINING = (180, 320), (64, 64)
CASES = [
    Case("pixwise", "vsr", 5, LARGE),
    Case("pixwise", "naive", 5, LARGE, repeats=1),
    Case("pixwise", "vsr", 3, LARGE),
    Case("pixwise", "naive", 3, LARGE, repeats=1),
    Case("pixwise", "vsr", 5, TRAINING),
    Case("pixwise", "naive", 5, TRAINING),
    Case("pixwise", "vsr", 0, LARGE),
    Case("pixwise", "naive", 0, LARGE),
    Case("pixsim", "vsr", 5, LARGE),
    Case("pixsim", "vsr", 0, LARGE),
    Case("pixsim", "naive", 0, LARGE),
]
CASES += [
    Case("local_window", form, crop, size, channels, backward, {"unfold": 1, "loop": 3, "fused": 10}[form])
    for size, channels, crop, backward in product((TRAINING, LARGE), (64, 128), (1, 3, 5), (False, True))
    for form in ("unfold", "loop", "fused")
]


def main(words: list[str] | None = None) -> None:
    """Runs every case, or the one given, and writes the table and a JSON file."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--read", choices=sorted({case.memory for case in CASES}), help="only this one")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="what the speed-ups are computed from")
    parser.add_argument("--note", default="other processes ran on the machine", help="kept with the results")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.case is not None:
        print(json.dumps(measured(CASES[options.case], options.device, options.peak)))
        return

    rows = []
    columns = ["read", "form", "crop", "map", "channels", "pass", *COLUMNS]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for number, case in enumerate(CASES):
        if options.read not in (None, case.memory):
            continue
        row = case._asdict() | run_apart(number, options.device)
        rows.append(row)
        print(table_line(row), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    print_speedups(rows, "fastest" if options.clock == "wall" else "cpu_fastest")
    path = options.out / f"{options.read or 'memory'}_{options.device}.json"
    path.write_text(
        json.dumps({"machine": machine(options.device) | {"shared": options.note}, "rows": rows}, indent=1) + "\n"
    )
    print(f"\nwritten: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def run_apart(number: int, device: str) -> dict[str, float | list[float] | str]:
    """Returns the measurements of a case, made in a process of its own."""
    case = CASES[number]
    needed = naive_bytes(case) if case.form in ("naive", "unfold") else 0
    if 1.5 * needed > 0.8 * available_bytes(device):  # half as much again, as freed memory is kept
        return {"note": f"not run: needs about {needed / 2**30:.0f} GiB"}
    measurements = {}
    for flags, environment in (["--peak"], {"MALLOC_MMAP_THRESHOLD_": str(MIB)}), ([], {}):
        command = [sys.executable, __file__, "--device", device, "--case", str(number), *flags]
        result = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
        if result.returncode != 0:
            return {"note": f"failed ({result.returncode}): {result.stderr.strip().splitlines()[-1:]}"}
        measurements |= json.loads(result.stdout)
    return measurements


def measured(case: Case, device: str, peak: bool) -> dict[str, float | list[float]]:
    """Returns the peak memory beside the features, or the seconds of each repeat, their median and spread."""
    from vsr.utils.allocator import keep_freed_memory

    torch.manual_seed(0)
    (h, w), t = case.size, 5
    read, parameters = reader(case, device)
    query = torch.randn(1, case.channels, h, w, device=device, requires_grad=case.backward)
    sentences = torch.randn(1, t, case.channels, h, w, device=device, requires_grad=case.backward)
    small = (query.detach()[..., :16, :16].contiguous(), sentences.detach()[..., :16, :16].contiguous())

    def step(q: Tensor, s: Tensor) -> None:
        with torch.set_grad_enabled(case.backward):
            outputs = read(q, s)
            if case.backward:
                sum(x.mean() for x in outputs).backward()
        for tensor in (q, s, *parameters):
            tensor.grad = None

    step(*(x.requires_grad_(case.backward) for x in small))  # libraries loaded, threads started
    if peak:
        with Peak(device) as rise:
            step(query, sentences)
        features = (query.numel() + sentences.numel()) * query.element_size()
        return {
            "peak_extra_mib": rise.extra / MIB,
            "features_mib": features / MIB,
            "peak_extra_over_features": rise.extra / features,
        }
    keep_freed_memory()
    passes = [timed(lambda: step(query, sentences), device) for _ in range(case.repeats)]
    seconds, cpu_seconds = (list(times) for times in zip(*passes, strict=True))
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "fastest": min(seconds),
        "median": statistics.median(seconds),
        "spread": max(seconds) - min(seconds),
        "cpu_fastest": min(cpu_seconds),
    }


def reader(case: Case, device: str) -> tuple[Callable[[Tensor, Tensor], tuple[Tensor, ...]], list[Tensor]]:
    """Returns the read to measure, (query, sentences) -> (u, o) or (o,), and its parameters."""
    import memory_oracle

    from vsr.memory import PixSentence, PixSim, PixWise
    from vsr.ops import local_window_read
    from vsr.ops.local_window import reference as local_window_reference

    if case.memory == "local_window":
        forms: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, ...]]] = {
            "unfold": lambda q, s: memory_oracle.pixwise(q, s, s, case.crop)[:1],
            "loop": lambda q, s: local_window_reference.local_window_read(q, s, None, case.crop, None)[:1],
            "fused": lambda q, s: (local_window_read(q, s, None, case.crop).read,),
        }
        return forms[case.form], []

    memory = {"pixsim": PixSim, "pixwise": PixWise, "pixsentence": PixSentence}[case.memory]
    module = memory(case.channels, case.size, crop=case.crop).to(device)

    def naive(query: Tensor, sentences: Tensor) -> tuple[Tensor, Tensor]:
        return memory_oracle.memory(module, case.memory, query, sentences, None, max(1, case.crop))[:2]

    def ours(query: Tensor, sentences: Tensor) -> tuple[Tensor, Tensor]:
        return module(query, sentences)[:2]

    return naive if case.form == "naive" else ours, list(module.parameters())


class Peak:
    """Measures how far the memory in use rises inside the ``with`` block: ``extra`` bytes."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.extra = 0
        self.stop = threading.Event()
        self.watcher = threading.Thread(target=self._watch)

    def __enter__(self) -> "Peak":
        self.before = self._in_use()
        if self.device == "cpu":
            self.watcher.start()
        else:
            torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device == "cpu":
            self.stop.set()
            self.watcher.join()
        else:
            torch.cuda.synchronize()
            self.extra = torch.cuda.max_memory_allocated() - self.before

    def _in_use(self) -> int:
        if self.device != "cpu":
            return torch.cuda.memory_allocated()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _watch(self) -> None:
        while not self.stop.wait(0.002):
            self.extra = max(self.extra, self._in_use() - self.before)


def timed(run: Callable[[], None], device: str) -> tuple[float, float]:
    """Returns the seconds of one call, and the CPU seconds that it used."""
    if device != "cpu":
        torch.cuda.synchronize()
    start, cpu_start = time.perf_counter(), time.process_time()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - cpu_start


def naive_bytes(case: Case) -> int:
    """Returns about what a naive form holds: four copies of the candidates."""
    positions, frames = case.size[0] * case.size[1], 5
    return 4 * 4 * frames * max(1, case.crop) ** 2 * case.channels * positions


def available_bytes(device: str) -> int:
    """Returns the memory that can still be had."""
    if device != "cpu":
        return torch.cuda.mem_get_info()[0]
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def table_line(row: dict) -> str:
    """Returns a row as a line of Markdown."""
    h, w = row["size"]
    head = f"| {row['memory']} | {row['form']} | {row['crop']} | {h}×{w} | {row['channels']} "
    head += f"| {'f+b' if row['backward'] else 'f'} |"
    if "note" in row:
        return f"{head} {row['note']} {'|' * len(COLUMNS)}"
    times = " | ".join(f"{row[key]:.4g}" for key in ("fastest", "median", "spread", "cpu_fastest"))
    return f"{head} {times} | {row['peak_extra_mib']:.0f} | {row['peak_extra_over_features']:.2f}× |"


def print_speedups(rows: list[dict], clock: str) -> None:
    """Prints the three forms of the local window side by side: their fastest passes and their peaks."""
    by_form = {form: [row for row in rows if row["form"] == form] for form in ("unfold", "loop", "fused")}
    if not by_form["fused"]:
        return
    print("\n| map | channels | crop | pass | unfold ms | loop ms | fused ms | of unfold | of loop | peak extra MiB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in zip(*by_form.values(), strict=True):
        case = row[0]
        ms = [1e3 * form.get(clock, float("nan")) for form in row]
        peaks = " / ".join(f"{form.get('peak_extra_mib', float('nan')):.0f}" for form in row)
        speedups = f"{ms[0] / ms[2]:.0f}× | {ms[1] / ms[2]:.1f}×"
        head = f"{case['size'][0]}×{case['size'][1]} | {case['channels']} | {case['crop']}"
        times = " | ".join(f"{value:.4g}" for value in ms)
        print(f"| {head} | {'f+b' if case['backward'] else 'f'} | {times} | {speedups} | {peaks} |")


if __name__ == "__main__":
    main()
