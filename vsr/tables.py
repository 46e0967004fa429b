"""Trains, tests and tabulates experiments: ``python -m vsr.tables table1 --base demo --seeds 3``.

Tables 1–3 compare memories, on REDS or on the demo clips; the table ``networks`` compares networks of similar cost that
were trained for the same time on shots of a film.

Every run, an experiment with a seed, has a folder in ``experiments`` and one in ``results``. Finished runs are not
repeated; ``--resume`` resumes an unfinished one.
"""

import argparse
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from vsr import config, test, train
from vsr.config.options import Options
from vsr.contracts import data_spec
from vsr.costs import num_macs, num_parameters
from vsr.engine.precision import full_float32
from vsr.engine.saving.resume import differences
from vsr.engine.saving.weights import load_weights
from vsr.evaluation.draw.images import to_bgr, write_image
from vsr.evaluation.restore import clips_of, middle_target, restore, spec_for, steps_of
from vsr.evaluation.tables import write_table
from vsr.utils.distributed import take_place
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.files import write_text_atomically
from vsr.utils.log import logger, start_log
from vsr.utils.weight_files import read_weights

OURS = "The experiments are named in the original project's README; its values are not public, and these are our runs."
SAME_TIME = (
    "The numbers of iterations were chosen so that every training takes about the same processor time. All flow "
    "networks started from random weights and were trained from the first iteration on."
)


class Table(NamedTuple):
    """What a table compares."""

    title: str
    remark: str  # a note below the table
    rows: tuple[str, ...]  # the names of option files, without the first row's


TABLES = {
    "table1": Table("Table 1: how weights are found", OURS, ("pixsim", "pixwise", "pixsentence")),
    "table2": Table(
        "Table 2: region, channels, normalisation", OURS, ("128_crop3", "128_crop5", "256_concat", "128_concat_norm")
    ),
    "table3": Table("Table 3: with and without alignment", OURS, ("pcd", "nopcd")),
    "networks": Table(
        "Networks trained for the same time", SAME_TIME, ("basicvsr", "basicvsr_plusplus", "memory_basicvsr")
    ),
}
ORIGINAL = ("table1", "table2", "table3")
OUT = Path("results/tables")
RUNS = 5  # timed calls of a network
HARMLESS = ("num_gpu", "dist_params", "logger")


class Base(NamedTuple):
    """Data and scale of experiments."""

    folder: Path  # of the tables' folders of option files
    first: Path  # the options of the first row, the reference of the others
    tables: tuple[str, ...]


BASES = {
    "reds": Base(Path("options"), Path("options/tables/edvr.yml"), ORIGINAL),
    "demo": Base(Path("options/tables_demo"), Path("options/tables_demo/edvr.yml"), ORIGINAL),
    "films": Base(Path("options"), Path("options/networks/edvr.yml"), ("networks",)),
}


class TableRun(NamedTuple):
    """One training of an experiment."""

    file: Path
    name: str
    overrides: list[str]
    experiment: Path  # the folder of weights
    results: Path
    costs: Path  # written last: if it exists, the run is finished


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains and tests every run without a result, writes the tables, and returns the exit code."""
    args = parse(arguments)
    folder, first, tables = BASES[args.base]
    if not first.is_file():
        raise UserError(f"'{Path.cwd()}' has no {first}: run python -m vsr.tables in the repository's folder")
    chosen = tables if args.table == "all" else (args.table,)
    files = {table: [first, *(folder / table / f"{name}.yml" for name in TABLES[table].rows)] for table in chosen}
    used = dict.fromkeys(file for table in chosen for file in files[table])
    runs = {file: [plan(file, seed, args.iters, args.set) for seed in range(args.seeds)] for file in used}
    start_log()
    unique = {run.name: run for own in runs.values() for run in own}  # table3/pcd is table2/128_crop5
    options = {name: check(run, args.resume) for name, run in unique.items()}
    durations: list[float] = []
    for number, run in enumerate(unique.values(), 1):
        if run.costs.exists():
            continue
        to_do = sum(not other.costs.exists() for other in unique.values())
        seconds = sum(durations) / max(len(durations), 1) * to_do
        eta = f"ETA {seconds // 3600:.0f} h {seconds % 3600 / 60:.0f} min" if durations else "ETA after the first run"
        logger.info("run %d of %d: %s (%d to do, %s)", number, len(unique), run.name, to_do, eta)
        started = time.perf_counter()
        carry_out(run, options[run.name])
        durations.append(time.perf_counter() - started)
        start_log()

    command = shlex.join(["python", "-m", "vsr.tables", *(sys.argv[1:] if arguments is None else arguments)])
    for table in chosen:
        titles = {file: title_of(file) for file in files[table]}
        results = {title: [run.results for run in runs[file]] for file, title in titles.items()}
        name = (table if args.base == "reds" else f"{args.base}_{table}") + (f"_{args.iters}it" if args.iters else "")
        title, remark, _ = TABLES[table]
        write_table(OUT / name, title, remark, results, options[runs[first][0].name], command)
    return 0


def title_of(file: Path) -> str:
    """Returns the name of a row: the network's type, or for EDVR's memories what the file is called after."""
    network = config.read_tree(file)["network_g"]["type"]
    return file.stem.replace("_", " ") if network == "EDVRMemory" else network


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="vsr tables", description="Trains, tests and tabulates experiments."
    )
    parser.add_argument("table", choices=[*TABLES, "all"])
    parser.add_argument("--base", choices=list(BASES), help="data: REDS at full scale; the demo clips; shots of films")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="trainings per experiment: seeds 0 to N-1")
    parser.add_argument("--iters", type=int, metavar="N", help="iterations per training, with one cosine decay")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="overrides an option of all runs"
    )
    parser.add_argument("--resume", action="store_true", help="resumes unfinished trainings")
    args = parser.parse_args(arguments)
    of_table = [base for base, (_, _, tables) in BASES.items() if args.table in (*tables, "all")]
    args.base = args.base or of_table[0]
    if args.base not in of_table:
        parser.error(f"--base {args.base} has no {args.table}; expected --base {' or '.join(of_table)}")
    for override in args.set:
        if override.partition("=")[0].strip() in ("name", "manual_seed"):
            parser.error(f"--set {override}: every run has its own name and seed; --seeds N makes N of them")
    for option in ("seeds", "iters"):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            parser.error(f"--{option} has to be at least 1")
    return args


def plan(file: Path, seed: int, iterations: int | None, overrides: Sequence[str]) -> TableRun:
    """Returns the run of an experiment with a seed; its name holds both, and the number of iterations if given."""
    name, own = f"{config.read_tree(file)['name']}_seed{seed}", [f"manual_seed={seed}"]
    if iterations is not None:
        name += f"_{iterations}it"
        own += [f"train.total_iter={iterations}", f"train.scheduler.periods=[{iterations}]"]
        own += ["train.scheduler.restart_weights=[1]"]
    results = Path("results") / name
    overrides = [f"name={name}", *own, *overrides]
    return TableRun(file, name, overrides, Path("experiments") / name, results, results / "costs.json")


def check(run: TableRun, resume: bool) -> Options:
    """Returns the checked options of a run.

    Raises:
        UserError: the options are wrong or differ from those of the run so far, or it was begun, without ``resume``.
    """
    options = config.load(run.file, run.overrides, need="both")
    if "psnr" not in options.val.metrics:
        raise UserError(f"{run.file}: the tables compare val.metrics.psnr, which is missing")
    test_set = next(reversed(options.test_sets.values()), None)
    if test_set is None or not data_spec(test_set.data).has_gt:
        raise UserError(f"{run.file}: the tables need a test set with ground truth, datasets.test.dataroot_gt")
    begun = run.experiment / f"{run.name}.yml"
    if begun.exists():
        former = yaml.safe_load(begun.read_text(encoding="utf-8"))
        refuse_changes(former, options, f"options have changed since {run.experiment} was begun")
        if not run.costs.exists() and not resume:
            raise UserError(f"{run.name} was begun, not finished: continue with --resume, or remove {run.experiment}")
    if run.costs.exists():
        former = json.loads(run.costs.read_text()).get("options", {})
        refuse_changes(former, options, f"{run.results} was made with other options")
    return options


def refuse_changes(former: dict[str, Any], options: Options, message: str) -> None:
    """Raises UserError if options that change results differ from former ones."""
    changes = differences(former, options.resolved, lambda key: key.split(".")[0] in HARMLESS)
    if changes:
        text = "; ".join(changes[:3]) + " …" * (len(changes) > 3)
        raise UserError(f"{message} ({text}): remove that folder, or change them back")


def carry_out(run: TableRun, options: Options) -> None:
    """Trains the network unless its weights exist, tests it, and measures its costs.

    The processor time of a training is known if it was not interrupted.
    """
    arguments = ["-opt", str(run.file), *(part for override in run.overrides for part in ("--set", override))]
    final = run.experiment / "models" / f"net_g_{options.train.total_iter}.pth"
    training = None
    if not final.exists():
        is_new, before = not run.experiment.exists(), processor_seconds()
        try:
            train.main([*arguments, "--auto_resume"])
        except SystemExit:
            logger.info("vsr tables with --resume goes on from there")
            raise
        training = processor_seconds() - before if is_new else None
    test.main([*arguments, "--set", "path.param_key_g=~", "--weights", str(final)])
    measure(run, options, final, training)


def processor_seconds() -> float:
    """Returns the processor time of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def measure(run: TableRun, options: Options, weights: Path, training: float | None) -> None:
    """Writes ``costs.json``, and the restored middle frame of the last test set, ``example.png``.

    ``training`` is the processor seconds of the training, if they are known.
    """
    network, entry = options.network_g(), next(reversed(options.test_sets.values()))
    load_weights(network, read_weights(weights, prefer="params_ema"), weights)
    clip, middle = middle_target(clips_of(entry.data, entry.name))
    val, spec = options.val, spec_for(network, entry.data)
    planned = steps_of(spec, [clip], val.segment, val.warm_up, val.look_ahead)
    step = next(step for step in planned if middle in step.gives)
    pixels = {index: clip.lq(index) for index in step.reads}
    steps = [step._replace(clip=clip._replace(lq=pixels.__getitem__))]  # frames in memory: reading is not timed
    with take_place(options.num_gpu) as place, full_float32():
        network.to(place.device).eval()
        frame = next(restore(network, steps, place.device))
        write_image(run.results / "example.png", to_bgr(frame.sr))
        is_gpu = place.device.type == "cuda"
        device = torch.cuda.get_device_name(place.device) if is_gpu else f"CPU, {torch.get_num_threads()} thread(s)"
        elapsed = milliseconds(lambda: list(restore(network, steps, place.device)), place.device)
        report = {
            "parameters": num_parameters(network),
            "macs": num_macs(options.network_g, (1, len(frame.inputs), *frame.inputs[0].shape)) // len(step.gives),
            "milliseconds": elapsed / len(step.gives),
            "training": training,
            "device": device,
            "options": options.resolved,
        }
    write_text_atomically(run.costs, json.dumps(report) + "\n")


def milliseconds(run: Callable[[], object], device: torch.device) -> float:
    """Returns the median time of RUNS calls, after a warm-up call."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


if __name__ == "__main__":
    exit_cleanly(main)
