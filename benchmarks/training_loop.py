"""Measures where ``vsr.train`` spends the main process's processor time: forward, backward, update, and the rest.

    bash scripts/demo.sh                              # once, for the demo's clips
    python benchmarks/training_loop.py                # options/demo.yml with train.amp=bf16; about a minute
    python benchmarks/training_loop.py -opt FILE --set train.amp=off
    python benchmarks/training_loop.py --save NAME    # keeps benchmarks/results/training_loop_NAME.json

The training runs through its command, in a temporary folder. The first iterations warm up and are left out; those that
are counted log and save as often as the options say. A part within another part counts for the inner one.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from vsr import train
from vsr.engine import loop, step
from vsr.engine.guards import OffsetGuard
from vsr.engine.players import Player
from vsr.engine.trainer import Trainer

HERE = Path(__file__).parents[1]
RESULTS = HERE / "benchmarks/results"
STEP = ("forward", "backward", "update")
WORKERS = "the loader's workers, beside it"
PARTS: list[tuple[Any, str, str]] = [  # functions, and the part that their time counts for
    (Trainer, "restored", "forward"),
    (Tensor, "backward", "backward"),
    (Player, "gradient_norm", "update"),
    (Player, "update", "update"),
    (loop.Clock, "wait_for", "batches from the loader"),
    (step, "to_device", "batches to the device"),
    (step, "undoing", "state to undo the step"),
    (step, "flags_of_ranks", "flags: finite, stop"),
    (OffsetGuard, "answer", "offset guard"),
    (loop, "log", "log"),
    (Trainer, "save", "states and weights"),
]


class Parts:
    """Adds up the processor seconds of this process by part; what is in no part is ``other``."""

    def __init__(self) -> None:
        self.start()
        self.within = ["other"]

    def start(self) -> None:
        """Starts anew."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.since, self.wall = time.process_time(), time.perf_counter()
        self.workers = workers_seconds()

    def count(self) -> None:
        """Counts the time since the last call for the innermost part."""
        now = time.process_time()
        self.seconds[self.within[-1]] += now - self.since
        self.since = now

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function, its time counted for a part."""

        @wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            self.count()
            self.within.append(part)
            try:
                return function(*arguments, **options)
            finally:
                self.count()
                self.within.pop()

        return call


def workers_seconds() -> float:
    """Returns the processor seconds of the loader's workers so far; Linux alone counts them."""
    seconds = 0.0
    for process in multiprocessing.active_children():
        try:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


@contextmanager
def measured(warm_up: int, iterations: int, result: dict[str, Any]) -> Iterator[None]:
    """Times the training's parts while entered; fills ``result`` when the iteration after the last one begins."""
    parts, wait_for, begun = Parts(), loop.Clock.wait_for, 0

    def begin(clock: loop.Clock, stream: Any) -> Any:
        nonlocal begun
        begun += 1
        if begun == warm_up + 1:
            parts.start()
        if begun == warm_up + iterations + 1:
            parts.count()
            seconds = {**parts.seconds, WORKERS: workers_seconds() - parts.workers}
            result["ms"] = {part: own / iterations * 1e3 for part, own in seconds.items()}
            result["wall_ms"] = (time.perf_counter() - parts.wall) / iterations * 1e3
        return wait_for(clock, stream)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(loop.Clock, "wait_for", begin))
        for owner, name, part in PARTS:
            stack.enter_context(mock.patch.object(owner, name, parts.timed(part, getattr(owner, name))))
        yield


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Trains in a temporary folder; returns milliseconds of an iteration: ``ms`` by part, and ``wall_ms``."""
    result: dict[str, Any] = {}
    former, words = Path.cwd(), ["-opt", str(options.opt.resolve())]
    for change in (f"train.total_iter={options.warm_up + options.iterations + 1}", *options.set):
        words += ["--set", change]
    with tempfile.TemporaryDirectory() as folder, measured(options.warm_up, options.iterations, result):
        Path(folder, "datasets").symlink_to((former / "datasets").resolve())  # options name them from here
        os.chdir(folder)
        try:
            train.main(words)
        finally:
            os.chdir(former)
    return result


def rows_of(ms: dict[str, float]) -> list[dict[str, Any]]:
    """Returns rows of a table: the parts of the step, all others and their sum; shares are of the main process."""
    own = {part: value for part, value in ms.items() if part != WORKERS}
    rest = {part: value for part, value in own.items() if part not in STEP}
    rows = {part: own.get(part, 0.0) for part in (*STEP, *sorted(rest, key=lambda part: -rest[part]))}
    rows["all but forward, backward and update"] = sum(rest.values())
    return [{"part": part, "ms": value, "share": value / sum(own.values())} for part, value in rows.items()]


def main(words: list[str] | None = None) -> None:
    """Measures, prints a table, and keeps it with ``--save``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("-opt", type=Path, default=HERE / "options/demo.yml", help="the training's options file")
    parser.add_argument("--set", action="append", metavar="A.B=VALUE", help="as of vsr train; train.amp=bf16")
    parser.add_argument("--warm_up", type=int, default=20, help="iterations left out")
    parser.add_argument("--iterations", type=int, default=200, help="iterations counted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", metavar="NAME")
    parser.add_argument("--note", default="", help="kept with the results: who else used the machine")
    options = parser.parse_args(words)
    options.set = options.set or ["train.amp=bf16"]
    torch.set_num_threads(options.threads)
    result = run(options)
    rows = rows_of(result["ms"])
    print("| part of an iteration | processor ms | share |\n|---|---|---|")
    for row in rows:
        print(f"| {row['part']} | {row['ms']:.2f} | {row['share']:.2%} |")
    print(f"| {WORKERS} | {result['ms'][WORKERS]:.2f} | |")
    if options.save:
        from machine import machine

        settings = {"options": options.opt.name, "set": options.set, "iterations": options.iterations}
        about = {**machine("cpu"), "threads": options.threads, **settings, "note": options.note}
        kept = {"machine": about, "rows": rows, "workers_ms": result["ms"][WORKERS], "wall_ms": result["wall_ms"]}
        file = RESULTS / f"training_loop_{options.save}.json"
        file.write_text(json.dumps(kept, indent=1) + "\n")
        print(f"written: {file}")


if __name__ == "__main__":
    main()
