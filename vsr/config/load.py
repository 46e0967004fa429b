"""Checks an options file against the code and returns its options, ready to build objects."""

import inspect
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import addict

from vsr.config.options import DatasetOptions, GeneralOptions, LoaderOptions, Options
from vsr.config.schema import Report, check_component, check_value, describe
from vsr.config.spellings import modernise
from vsr.config.trials import compare_schedule, try_out
from vsr.config.yaml_files import override, read_tree
from vsr.registry import Kind, did_you_mean, find, names
from vsr.utils.errors import UserError

SECTIONS = [field.name for field in fields(GeneralOptions)]
LOADER_KEYS = [field.name for field in fields(LoaderOptions)]


def load(
    file: str | Path,
    overrides: Sequence[str] = (),
    need: Literal["train", "test"] = "train",
    missing_data: Literal["mistake", "note"] = "mistake",
) -> Options:
    """Returns the checked options of a YAML file.

    Args:
        file: the options file.
        overrides: ``a.b.c=value``, each value read as YAML; ``~`` removes the key.
        need: ``train`` asks for ``datasets.train`` and ``train:``; ``test`` leaves the training data closed.
        missing_data: whether folders and files that do not exist are mistakes, or notes for later.

    Raises:
        UserError: the file cannot be read or holds mistakes; all of them are listed.
    """
    tree = read_tree(file)
    for setting in overrides:
        override(tree, setting)
    has_pixel_opt = isinstance(tree.get("train"), dict) and "pixel_opt" in tree["train"]
    notes = modernise(tree)
    scale = check_value(tree.get("scale"), int, "scale", Report())
    report = Report(shared={"scale": scale} if scale is not None and scale > 0 else {})
    _import(tree, report)
    _fill_in(tree)
    options = _check(tree, need, report)
    absent = try_out(options, need, report)
    if missing_data == "mistake":
        report.mistakes += absent
    if has_pixel_opt:  # the key as it stands in the file
        report.mistakes = [line.replace("train.losses.pixel", "train.pixel_opt") for line in report.mistakes]
    if report.mistakes:
        count = f"{len(report.mistakes)} mistake{'s' * (len(report.mistakes) > 1)}"
        lines = report.mistakes + [f"note: {note}" for note in notes]
        raise UserError(f"{count} in {file}:\n" + "\n".join(f"  {line}" for line in lines))
    frozen = addict.Dict(tree)
    frozen.freeze()
    notes += report.notes + absent + (compare_schedule(options["train"]) if need == "train" else [])
    return Options(**options, tree=frozen, notes=notes, changes=report.changes)


def report_check(file: str, options: Options) -> int:
    """Prints what ``--check`` found and returns the exit code of success."""
    for note in options.notes:
        sys.stdout.write(f"note: {note}\n")
    sys.stdout.write(f"{file}: options OK ({options.name}, {options.tree['network_g']['type']})\n")
    return 0


def _fill_in(tree: dict[str, Any]) -> None:
    """Fills in ``map_size``, which follows from the training's crops, where a network takes one and none is given."""
    network, datasets = tree.get("network_g"), tree.get("datasets")
    train = datasets.get("train") if isinstance(datasets, dict) else None
    gt_size = train.get("gt_size") if isinstance(train, dict) else None
    if not isinstance(network, dict) or type(gt_size) is not int or "map_size" in network:
        return
    with suppress(ValueError, TypeError):  # a type that does not exist is reported later
        pixels = getattr(find("arch", network.get("type", "")), "pixels_per_position", None)
        if pixels is not None and gt_size >= pixels:
            network["map_size"] = [gt_size // pixels] * 2


def _import(tree: dict[str, Any], report: Report) -> None:
    """Imports the modules that the file names; they register what else it names."""
    modules = tree.get("imports")
    if not isinstance(modules, list) or not all(isinstance(module, str) for module in modules):
        return  # a mistake, if there is one, is reported with those of the other keys
    for kind in get_args(Kind):
        names(kind)  # ours come first: where a name is taken twice, the message is about the other
    for module in modules:
        try:
            if not all(part.isidentifier() for part in module.split(".")):
                raise ModuleNotFoundError("expected a name as in Python's import")
            import_module(module)
        except ModuleNotFoundError as error:
            report.mistake("imports", f"'{module}' cannot be imported from {Path.cwd()} or PYTHONPATH: {error}")
        except ValueError as error:  # it registers a name that is taken
            report.mistake("imports", f"{module}: {error}")


def _check(tree: dict[str, Any], need: str, report: Report) -> dict[str, Any]:
    """Returns the keyword arguments of Options, complete when nothing was reported."""
    trainer_name = tree.get("trainer")
    trainer_name = "ScratchTrainer" if trainer_name is None else trainer_name
    try:
        trainer = find("trainer", trainer_name if isinstance(trainer_name, str) else describe(trainer_name))
    except ValueError as error:
        report.mistake("trainer", str(error))
        trainer = find("trainer", "ScratchTrainer")
    for key in tree:
        if key not in (*SECTIONS, "datasets", "trainer", "train"):
            report.mistake(str(key), f"unknown key{did_you_mean(key, [*SECTIONS, 'datasets', 'trainer', 'train'])}")

    general = check_value({k: v for k, v in tree.items() if k in SECTIONS}, GeneralOptions, "", report)

    train = None
    if tree.get("train") is not None:
        schema = get_type_hints(trainer.__init__ if inspect.isclass(trainer) else trainer)["train"]
        train = check_value(tree["train"], schema, "train", report)
    elif need == "train":
        report.mistake("train", "missing")
    own = {"datasets": _check_datasets(tree, need, report), "trainer": trainer, "train": train}
    return own if general is None else {**vars(general), **own}


def _check_datasets(tree: dict[str, Any], need: str, report: Report) -> dict[str, DatasetOptions]:
    sections = tree.get("datasets")
    if not isinstance(sections, dict) or not sections:
        report.mistake("datasets", "missing" if not sections else f"expected a mapping, got {describe(sections)}")
        return {}
    if need == "train" and sections.get("train") is None:
        report.mistake("datasets.train", "missing: there is nothing to train on")
    datasets = {}
    for phase, section in sections.items():
        path = f"datasets.{phase}"
        if phase != "train" and not str(phase).startswith(("val", "test")):
            report.mistake(path, "unknown phase; phases are called train, val…, test…")
        elif section is None:
            continue  # `val: ~` takes a data set away
        elif not isinstance(section, dict):
            report.mistake(path, f"expected a mapping of keys, got {describe(section)}")
        else:
            own = {k: v for k, v in section.items() if k not in (*LOADER_KEYS, "name")}
            build = check_component(own, "dataset", path, report, beside=LOADER_KEYS)
            loader = check_value({k: v for k, v in section.items() if k in LOADER_KEYS}, LoaderOptions, path, report)
            name = section.get("name", phase)
            if not isinstance(name, str):
                report.mistake(f"{path}.name", f"expected text, got {describe(name)}; put it in quotes")
            elif phase != "train" and any(other.name == name for other in datasets.values() if other.phase != "train"):
                report.mistake(f"{path}.name", f"another test set is called '{name}'; results need different names")
            elif build is not None and loader is not None:
                try:
                    datasets[phase] = DatasetOptions(phase, name, build, loader)
                except ValueError as error:
                    report.mistake(path, str(error))
    return datasets
