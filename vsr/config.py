"""Reads an options file: YAML → inheritance, overrides, old spellings → checked options, ready to build objects."""

import inspect
import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import addict
import numpy as np
import torch
import yaml
from yaml.constructor import ConstructorError

from vsr.data.sampler import SampleKey, TrainSampler
from vsr.options import DatasetOptions, GeneralOptions, LoaderOptions, Options
from vsr.registry import Kind, did_you_mean, find, task_of
from vsr.schema import Report, check_component, check_mapping, check_value, describe, settings_of
from vsr.spellings import modernise
from vsr.utils.errors import UserError

MOST_BITS = 1000  # of a whole number: a float holds no more
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
    for override in overrides:
        _override(tree, override)
    notes = modernise(tree)
    scale = check_value(tree.get("scale"), int, "scale", Report())
    report = Report(shared={"scale": scale} if scale is not None and scale > 0 else {})
    try:
        options = _check(tree, need, report)
        absent = _try_out(options, need, report)
    except RecursionError:
        raise UserError(f"{file}: an anchor contains itself") from None
    if missing_data == "mistake":
        report.mistakes += absent
    if report.mistakes:
        count = f"{len(report.mistakes)} mistake{'s' * (len(report.mistakes) > 1)}"
        raise UserError(f"{count} in {file}:\n" + "\n".join(f"  {line}" for line in report.mistakes))
    frozen = addict.Dict(tree)
    frozen.freeze()
    notes += absent + (_compare_lengths(options["train"]) if need == "train" else [])
    return Options(**options, tree=frozen, notes=notes, changes=report.changes)


def report_check(file: str, options: Options) -> int:
    """Prints what ``--check`` found and returns the exit code of success."""
    for note in options.notes:
        sys.stdout.write(f"note: {note}\n")
    sys.stdout.write(f"{file}: options are right ({options.name}, {options.tree['network_g']['type']})\n")
    return 0


def read_tree(file: str | Path, parents: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Returns a file's mapping, merged into those of the files that its ``_base_`` names.

    Mappings merge key by key; any other value replaces; ``null`` removes what the base says.
    """
    path = Path(file).resolve()
    if path in parents:
        raise UserError(f"{file}: _base_ leads back to the file itself: {' → '.join(p.name for p in (*parents, path))}")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise UserError(f"options file {file} does not exist") from None
    except UnicodeDecodeError:
        raise UserError(f"options file {file} is not a text file in UTF-8") from None
    except OSError as error:
        raise UserError(f"options file {file} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{file}: nested too deeply") from None
    if not isinstance(tree, dict):
        raise UserError(f"{file}: expected a mapping of keys, got {describe(tree)}")
    bases = tree.pop("_base_", [])
    merged: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or "\0" in base:
            raise UserError(f"{file}: _base_ has to name a file, got {describe(base)}")
        merged = _merge(merged, read_tree(path.parent / base, (*parents, path)))
    return _merge(merged, tree)


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

    general = check_mapping({k: v for k, v in tree.items() if k in SECTIONS}, GeneralOptions, "", report) or {}
    try:
        GeneralOptions(**general) if general else None
    except ValueError as error:
        report.mistake("", str(error))

    train = None
    if tree.get("train") is not None:
        schema = get_type_hints(trainer.__init__ if inspect.isclass(trainer) else trainer)["train"]
        train = check_value(tree["train"], schema, "train", report)
    elif need == "train":
        report.mistake("train", "missing")
    return {**general, "datasets": _check_datasets(tree, need, report), "trainer": trainer, "train": train}


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
            build = check_component(own, "dataset", path, report)
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


def _try_out(options: dict[str, Any], need: str, report: Report) -> list[str]:
    """Builds every component once and reports what the constructors refuse.

    Returns:
        Folders and files that do not exist.
    """
    absent: list[str] = []
    networks = []
    for path, kind, build in report.components:
        if path == "datasets.train" and need == "test":
            continue
        try:
            result: Any = TRIALS[kind](build) if kind in TRIALS else None
            if path == "datasets.train" and "train" in options["datasets"]:
                TrainSampler(len(result), options["datasets"]["train"].loader.dataset_enlarge_ratio)
        except FileNotFoundError as error:
            absent.append(f"{path}: {error}")
        except ValueError as error:
            report.mistake(path, str(error))
        else:
            networks += [result] if kind == "arch" else []
    _compare_phases(report)
    for network in networks:
        _compare_tasks(network, options, report)
        _compare_with_network(network, report.shared.get("scale", 4), report)
    for key in ("pretrain_network_g", "resume_state"):
        file = getattr(options.get("path"), key, None)
        if file is not None and not Path(file).is_file():
            absent.append(f"path.{key}: {file} does not exist")
    return absent


def _on_meta(build: Callable[[], Any]) -> Any:
    try:
        with torch.device("meta"):
            return build()
    except (RuntimeError, TypeError, OverflowError) as error:  # PyTorch's, for sizes whose product it cannot count
        raise ValueError(f"it cannot be built with these sizes: {str(error).splitlines()[0]}") from None


def _two_images(build: Any) -> Any:
    size = 32 + 2 * max(0, min(build.keywords.get("crop_border", 0), 2000))
    return build(np.zeros((size, size, 3), np.uint8), np.zeros((size, size, 3), np.uint8))


# how a component of each kind is tried out: cheaply, and with what the program would supply
TRIALS: dict[Kind, Callable[[Callable[..., Any]], Any]] = {
    "arch": _on_meta,
    "dataset": lambda build: build(),
    "loss": lambda build: build(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)),
    "optimizer": lambda build: build([torch.zeros(1, requires_grad=True)]),
    "scheduler": lambda build: build(0, 1e-3),
    "metric": _two_images,
}


def _compare_phases(report: Report) -> None:
    """Reports test sets to train on, and training sets to test with: they say by what they ask for a sample."""
    for path, kind, build in report.components:
        if kind != "dataset":
            continue
        name, asked_by = build.func.__name__, list(get_type_hints(build.func.__getitem__).values())[:1]
        cuts_patches = SampleKey in get_args(*asked_by) and task_of(build.func) == "super-resolution"
        if path == "datasets.train" and asked_by == [int]:
            report.mistake(f"{path}.type", f"{name} is for testing: it draws no random samples")
        elif path != "datasets.train" and cuts_patches:
            report.mistake(f"{path}.type", f"{name} is for training: it cuts patches; try VideoTestDataset")


def _compare_lengths(train: Any) -> list[str]:
    """Returns a note where a schedule's periods are not as long as the training."""
    periods = settings_of(train.scheduler).get("periods") if train.scheduler is not None else None
    if periods is None or sum(periods) == train.total_iter:
        return []
    end, total = sum(periods), train.total_iter
    what = "the rate then stays at its lowest" if end < total else "the rate has not fallen when training ends"
    return [f"train.scheduler.periods end at iteration {end}, but train.total_iter is {total}: {what}"]


def _compare_tasks(network: Any, options: dict[str, Any], report: Report) -> None:
    """Reports a trainer or data sets that are not for what the network is for."""
    name, task = type(network).__name__, task_of(network)
    others = [(path, build.func) for path, kind, build in report.components if kind == "dataset"]
    if options["train"] is not None:
        others.append(("trainer", options["trainer"]))
    for path, other in others:
        if task_of(other) != task:
            report.mistake(path, f"{other.__name__} is for {task_of(other)}, but {name} is for {task}")
    if task == "next-frame" and any(kind == "metric" for _, kind, _ in report.components):
        report.mistake("val.metrics", f"{name} is always measured by the same values; remove it")


def _compare_with_network(network: Any, scale: int, report: Report) -> None:
    """Reports a scale, windows or training crops that the network cannot take."""
    name, multiple = type(network).__name__, getattr(network, "size_multiple", 1)
    test_type = getattr(network, "test_type", None)
    center = getattr(network, "center_frame_idx", None)
    if center is not None and center != network.num_frame // 2:
        text = f"{center}, but the ground truth is the middle frame, {network.num_frame // 2}: leave it out"
        report.mistake("network_g.center_frame_idx", text)
    if getattr(network, "scale", scale) != scale:
        report.mistake("scale", f"{scale}, but {name} with these options restores ×{network.scale}")
    for path, kind, dataset in report.components:
        value = settings_of(dataset) if kind == "dataset" else {}
        num_frame = getattr(network, "num_frame", value.get("num_frame"))
        if value.get("num_frame") != num_frame and "num_frame" in value:
            report.mistake(f"{path}.num_frame", f"{value['num_frame']}, but network_g.num_frame is {num_frame}")
        if value.get("test_type", test_type) != test_type:
            report.mistake(f"{path}.test_type", f"{value['test_type']}, but network_g.test_type is {test_type}")
        frame_size = (value.get("height"), value.get("width"))
        if None not in frame_size and frame_size != getattr(network, "frame_size", frame_size):
            text = f"height, width are {list(frame_size)}, but network_g.frame_size is {list(network.frame_size)}"
            report.mistake(path, text)
        if isinstance(value.get("gt_size"), int) and value["gt_size"] // scale % multiple:
            unit = scale * multiple
            nearest = max(round(value["gt_size"] / unit), 1) * unit
            report.mistake(
                f"{path}.gt_size", f"{value['gt_size']} is no multiple of {unit}, as {name} needs: {nearest}"
            )


def _override(tree: dict[str, Any], override: str) -> None:
    keys, equals, text = override.partition("=")
    if not equals or not keys.strip():
        raise UserError(f"--set takes a.b.c=value, got '{override}'")
    *sections, last = keys.strip().split(".")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is not valid YAML: {' '.join(str(error).split())}") from None
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise UserError(f"--set {override}: '{section}' is not a mapping of keys")
    if value is None and last in tree:
        del tree[last]
    else:
        tree[last] = value  # a `~` where nothing is, too: the key may be misspelt


def _merge(base: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in child.items():
        if value is None and key in merged:
            del merged[key]
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


class _Loader(yaml.SafeLoader):
    """Plain YAML without objects; a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]:
            if key.value in seen:
                raise ConstructorError(None, None, f"the key '{key.value}' is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Returns a node's value; what only looks like a number or a date is an error of the file, with its line."""
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > MOST_BITS:
                raise ValueError(f"a number of {value.bit_length()} bits")
        except (ValueError, LookupError, AttributeError) as error:
            text = f"{str(node.value)[:40]!r} is no value ({error}); what is meant as text needs quotes"
            raise ConstructorError(None, None, text, node.start_mark) from None
        return value
