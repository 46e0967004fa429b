"""Checks an options file against the code and returns its options, ready to build objects."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from addict import Dict

from vsr.archs.build import checked_network, spec_of
from vsr.config import edvr2019
from vsr.config.datasets import Need, open_datasets
from vsr.config.leftovers import MISSING, drop_leftovers
from vsr.config.options import DatasetOptions, GeneralOptions, Options, PathOptions
from vsr.config.schema import Report, check_value, describe, options_of, resolved
from vsr.config.spellings import as_written, modernise
from vsr.config.yaml_files import base_of, override, read_tree
from vsr.contracts import HasTask, TrainSection, mismatches, other_maps
from vsr.registry import Kind, find, name_of, names
from vsr.utils.errors import UserError, described

SECTIONS = [field.name for field in dataclasses.fields(GeneralOptions)]
KEYS = [*SECTIONS, "datasets", "trainer", "train"]


def load(
    file: str | Path,
    overrides: Sequence[str] = (),
    need: Need = "train",
    missing_data: Literal["mistake", "note"] = "mistake",
) -> Options:
    """Returns the checked options of a YAML file, with its data sets opened.

    Args:
        file: the options file.
        overrides: ``a.b.c=value``, each value read as YAML; ``~`` removes the key.
        need: ``train`` asks for ``datasets.train`` and ``train:`` and keeps no test set open; ``test`` leaves the
            training data closed; ``both`` asks for all and keeps all open; ``network`` asks for no data.
        missing_data: whether folders and files that do not exist are mistakes, or only noted.

    Raises:
        UserError: the file cannot be read or holds mistakes; all of them are listed.
    """
    tree = read_tree(file)
    for setting in overrides:
        override(tree, setting)
    report = Report(features=MISSING, base_of=lambda path: base_of(Path(file), path.split(".")))
    import_own(tree.get("imports"), report, Path(file).resolve().parent)
    written: dict[str, str] = {}  # key paths as they stand in the file, by the present ones
    notes = edvr2019.translate(tree, written) + modernise(tree, written)
    notes += [as_written(note, written) for note in drop_leftovers(tree)]
    defaults = {f.name: f.default for f in dataclasses.fields(GeneralOptions) if f.default is not dataclasses.MISSING}
    report.tree = defaults | tree
    for key in tree:
        if key not in KEYS:
            report.unknown(key, str(key), KEYS, tree)
    general = check_value({k: v for k, v in tree.items() if k in SECTIONS}, GeneralOptions, "", report)
    trainer, train = _check_training(tree, need, report)
    datasets = {} if need == "network" else open_datasets(tree, need, report)
    _check_network(tree, trainer, train, datasets, report)
    _check_files(PathOptions() if general is None else general.path, report)
    if need == "train" and general is not None and general.val.val_freq is None:
        text = "is measured at the end only; val.val_freq: N measures every N iterations"
        report.notes += [f"datasets.{phase} {text}" for phase in datasets if phase.startswith("val")]
    mistakes = report.mistakes + (report.absent if missing_data == "mistake" else [])
    if mistakes:
        count = f"{len(mistakes)} mistake{'s' * (len(mistakes) > 1)}"
        lines = [as_written(line, written) for line in mistakes] + [f"note: {note}" for note in notes]
        raise UserError(f"{count} in {file}:\n" + "\n".join(f"  {line}" for line in lines))
    sets = {phase: {**entry.settings, "name": entry.name, **vars(entry.loader)} for phase, entry in datasets.items()}
    values = Dict(resolved({**vars(general), "trainer": name_of(trainer)[1], "train": train, "datasets": sets}))
    values.freeze()
    return Options(
        **vars(general),
        datasets=datasets,
        trainer=trainer,
        train=train,
        resolved=values,
        notes=notes + [as_written(note, written) for note in report.notes],
        absent=[as_written(line, written) for line in report.absent],
        warnings=report.warnings,
        changes=report.changes,
    )


def report_check(file: str, options: Options) -> int:
    """Prints the warnings and notes of ``--check`` and returns the exit code of success."""
    absent = [f"{text}: without --check, the command would stop here" for text in options.absent]
    lines = [f"warning: {text}" for text in [*options.warnings, *absent]]
    for line in [*lines, *(f"note: {note}" for note in options.notes)]:
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{file}: options OK ({options.name}, {options.resolved.network_g.type})\n")
    return 0


def import_own(modules: Any, report: Report, folder: Path | None = None) -> None:
    """Imports the modules that the file names, a list or one name; they register components of one's own.

    The file's ``folder`` is searched last.
    """
    modules = [modules] if isinstance(modules, str) else modules
    if not isinstance(modules, list) or not all(isinstance(module, str) for module in modules):
        return  # reported with the other keys
    for kind in get_args(Kind):
        names(kind)  # ours come first: of a name that is taken twice, the message names the other module
    if folder is not None and modules and str(folder) not in sys.path:
        sys.path.append(str(folder))
    for module in modules:
        try:
            if module.endswith(".py") or not all(part.isidentifier() for part in module.split(".")):
                hint = f": {module.removesuffix('.py')}" if module.removesuffix(".py").isidentifier() else ""
                raise ModuleNotFoundError(f"expected a name as in Python's import{hint}", name=module)
            import_module(module)
            continue
        except ModuleNotFoundError as error:
            is_missing = f"{module}.".startswith(f"{error.name}.")  # or a package of which it is a part
            others = "" if folder in (None, Path.cwd()) else f", {folder}"
            place = f"{Path.cwd()}{others} or PYTHONPATH"
            text = f"'{module}' cannot be imported from {place}: {error}"
            report.mistake("imports", text if is_missing else f"{module}: {described(error)}")
        except Exception as error:  # any code may stand there
            report.mistake("imports", f"{module}: {described(error)}")
        report.imports_failed = True


def _check_training(tree: Mapping[str, Any], need: Need, report: Report) -> tuple[Any, Any]:
    """Returns the trainer and its options; None where the file has no valid ones."""
    name = "ScratchTrainer" if tree.get("trainer") is None else tree["trainer"]
    try:
        trainer = find("trainer", name if isinstance(name, str) else describe(name))
    except ValueError as error:
        if report.imports_failed:
            return None, None
        is_missing = isinstance(name, str) and name in MISSING
        report.mistake("trainer", f"unknown trainer '{name}': {MISSING[name]}" if is_missing else str(error))
        trainer = find("trainer", "ScratchTrainer")
    if tree.get("train") is None:
        if need not in ("test", "network"):
            report.mistake("train", "missing")
        return trainer, None
    title = trainer.__name__
    try:
        option, reason = options_of(trainer).get("train"), ""
    except NameError as error:
        option, reason = None, f" ({error})"
    schema = None if option is None else option.annotation
    if not isinstance(trainer, HasTask):
        report.mistake("trainer", f"{title} has no task: derive it from vsr.engine.trainer.Trainer")
    elif not (isinstance(schema, type) and issubclass(schema, TrainSection)):
        text = f"{title} does not declare its options: annotate its parameter `train`, train: TrainOptions"
        report.mistake("trainer", text + reason)
    else:
        num_absent = len(report.absent)
        train = check_value(tree["train"], schema, "train", report)
        if need in ("test", "network"):
            del report.absent[num_absent:]  # files that a training reads
        report.notes += [f"train.{note}" for note in train.notes()] if train is not None else []
        return trainer, train
    return trainer, None


def _check_network(
    tree: Mapping[str, Any], trainer: Any, train: Any, datasets: dict[str, DatasetOptions], report: Report
) -> None:
    """Builds the network without its values and compares it with the data, the trainer and the options."""
    build = next((build for path, _, build in report.components if path == "network_g"), None)
    if build is None:
        return
    try:
        network = checked_network(build)
    except ValueError as error:
        report.refusal(error, "network_g", options_of(build.func))
        return
    name, spec = type(network).__name__, spec_of(network)
    scale = check_value(report.tree["scale"], int, "scale", Report())
    if spec.task == "super-resolution" and scale is not None and spec.scale != scale:
        report.mistake("scale", f"{scale}, but {name} with these options restores ×{spec.scale}")
    if spec.center is not None and spec.num_frames is not None and spec.center != spec.num_frames // 2:
        text = f"{spec.center}, but the ground truth is the middle frame, {spec.num_frames // 2}: leave it out"
        report.mistake("network_g.center_frame_idx", text)
    if train is not None and trainer.task != spec.task:
        report.mistake("trainer", f"{trainer.__name__} is for {trainer.task}, but {name} is for {spec.task}")
    elif train is not None:
        for key, text in train.mistakes(network):
            report.mistake(f"train.{key}", text)
    if spec.task == "next-frame" and isinstance(tree.get("val"), dict) and tree["val"].get("metrics"):
        report.mistake("val.metrics", f"{name} is always measured by the same values; remove it")
    val = tree["val"] if isinstance(tree.get("val"), dict) else {}
    for key in ("flip_seq", "segment") if spec.reads == "window" else ():
        if val.get(key):
            report.mistake(f"val.{key}", f"{describe(val[key])}, but {name} does not restore clips: leave it out")
    for phase, entry in datasets.items():
        path, data = f"datasets.{phase}", entry.spec
        if data is None:
            continue
        for key, text in mismatches(spec, data, name, path):
            report.mistake(key, text)
        for number, stage in enumerate(entry.stages):
            for key, text in mismatches(spec, stage.spec, name, f"{path}.stages[{number}]"):
                report.mistake(key, text)
        if data.scale is not None and scale is not None and data.scale != scale:
            report.mistake(f"{path}.scale", f"{data.scale}, but scale is {scale}: leave it out")
        if not spec.is_fixed_to_map and (text := other_maps(spec, data)):
            report.notes.append(f"network_g.map_size: {text}")


def _check_files(path: PathOptions, report: Report) -> None:
    """Looks for the files of ``path``: pretrained weights are only noted, since resuming and testing do without."""
    for part in path.pretrained().values():
        if not Path(part.file).is_file():
            report.notes.append(f"path.pretrain_network_g: {part.file} does not exist")
    if path.resume_state is not None and not Path(path.resume_state).is_file():
        report.absent.append(f"path.resume_state: {path.resume_state} does not exist")
