"""Tries an options file's components out: each is built once, cheaply, and what does not fit together is reported."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vsr.archs.build import checked_network
from vsr.config.options import PathOptions
from vsr.config.schema import Report, settings_of
from vsr.contracts import data_spec
from vsr.data.degrade.apply import degradation_problem
from vsr.data.stream.loader import augment_problem
from vsr.data.stream.sampler import TrainSampler
from vsr.registry import Kind, task_of


def try_out(options: dict[str, Any], need: str, report: Report) -> list[str]:
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
            if kind == "dataset":
                _check_size(result, path)
            if path == "datasets.train" and "train" in options["datasets"]:
                loader = options["datasets"]["train"].loader
                TrainSampler(len(result), loader.dataset_enlarge_ratio)
                if loader.augment_on_gpu and (problem := augment_problem(result)) is not None:
                    report.mistake(f"{path}.augment_on_gpu", problem)
                if (unable := degradation_problem(data_spec(result), loader.degradation is not None)) is not None:
                    report.mistake(f"{path}.{unable[0]}", unable[1])
        except FileNotFoundError as error:
            absent.append(f"{path}: {error}")
        except ValueError as error:
            report.mistake(path, str(error))
        else:
            networks += [result] if kind == "arch" else []
    _compare_phases(report)
    _compare_lists(report)
    for network in networks:
        _compare_tasks(network, options, report)
        _compare_with_network(network, report.shared.get("scale", 4), report)
    # who resumes, or tests other weights, reads no pretrained ones
    path = options.get("path", PathOptions())
    for part in path.pretrained().values():
        if not Path(part.file).is_file():
            report.notes.append(f"path.pretrain_network_g: {part.file} does not exist")
    if path.resume_state is not None and not Path(path.resume_state).is_file():
        absent.append(f"path.resume_state: {path.resume_state} does not exist")
    return absent


def _check_size(dataset: Any, path: str) -> None:
    if not hasattr(dataset, "__len__"):
        raise ValueError(f"{type(dataset).__name__} has no __len__: define one that returns how many samples it has")
    if path != "datasets.train" and len(dataset) == 0:
        raise ValueError("the data set is empty: nothing to measure; check its list and folders")


def _two_images(build: Any) -> Any:
    size = 32 + 2 * max(0, min(build.keywords.get("crop_border", 0), 2000))
    return build(np.zeros((size, size, 3), np.uint8), np.zeros((size, size, 3), np.uint8))


def _two_batches(build: Any) -> Any:
    if inspect.isclass(build.func):
        return build()  # not called: it may need more than a few pixels
    return build(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))


# how a component of each kind is tried out: cheaply, and with what the program would supply
TRIALS: dict[Kind, Callable[[Callable[..., Any]], Any]] = {
    "arch": checked_network,
    "dataset": lambda build: build(),
    "loss": _two_batches,
    "optimizer": lambda build: build([torch.zeros(1, requires_grad=True)]),
    "scheduler": lambda build: build(0, 1e-3),
    "metric": _two_images,
}


def _compare_phases(report: Report) -> None:
    """Reports test sets to train on, and training sets to test with."""
    for path, kind, build in report.components:
        phases = getattr(build.func, "phases", ("train", "test"))
        if kind != "dataset":
            continue
        if path == "datasets.train" and "train" not in phases:
            report.mistake(f"{path}.type", f"{build.func.__name__} is for testing: it draws no random samples")
        elif path != "datasets.train" and "test" not in phases:
            text = f"{build.func.__name__} is for training: it cuts patches; try VideoTestDataset"
            report.mistake(f"{path}.type", text)


def compare_schedule(train: Any) -> list[str]:
    """Returns notes where a schedule's periods are not as long as the training, or its lowest rate is the highest."""
    settings = settings_of(train.scheduler) if train.scheduler is not None else {}
    periods, lowest = settings.get("periods"), settings.get("eta_min")
    rate, total, notes = train.optim_g.keywords.get("lr"), train.total_iter, []
    if periods is not None and sum(periods) != total:
        end = sum(periods)
        what = "the rate then stays at its lowest" if end < total else "the rate has not fallen when training ends"
        notes.append(f"train.scheduler.periods end at iteration {end}, but train.total_iter is {total}: {what}")
    if isinstance(lowest, int | float) and isinstance(rate, int | float) and lowest > rate:
        notes.append(f"train.scheduler.eta_min is {lowest:g}, above train.optim_g.lr, {rate:g}: the rate rises")
    return notes


def _compare_lists(report: Report) -> None:
    """Notes test sets of the clips that are trained on."""
    lists = {path: settings_of(part).get("list_file") for path, kind, part in report.components if kind == "dataset"}
    trained_on = lists.pop("datasets.train", None)
    for path, file in lists.items():
        if file is not None and file == trained_on:
            report.notes.append(f"{path}.list_file is that of datasets.train: what is measured is what was trained on")


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
    center, window = getattr(network, "center_frame_idx", None), getattr(network, "num_frame", None)
    if center is not None and window is not None and center != window // 2:
        text = f"{center}, but the ground truth is the middle frame, {window // 2}: leave it out"
        report.mistake("network_g.center_frame_idx", text)
    if getattr(network, "scale", scale) != scale:
        report.mistake("scale", f"{scale}, but {name} with these options restores ×{network.scale}")
    for path, kind, dataset in report.components:
        value = settings_of(dataset) if kind == "dataset" else {}
        num_frame = value.get("num_frame") if window is None else window
        if value.get("num_frame") != num_frame and "num_frame" in value:
            report.mistake(f"{path}.num_frame", f"{value['num_frame']}, but network_g.num_frame is {num_frame}")
        if value.get("test_type", test_type) != test_type:
            report.mistake(f"{path}.test_type", f"{value['test_type']}, but network_g.test_type is {test_type}")
        frame_size = (value.get("height"), value.get("width"))
        if None not in frame_size and frame_size != getattr(network, "frame_size", frame_size):
            text = f"height, width are {list(frame_size)}, but network_g.frame_size is {list(network.frame_size)}"
            report.mistake(path, text)
        gt_size = value.get("gt_size")
        if isinstance(gt_size, int) and gt_size // scale % multiple:
            unit = scale * multiple
            nearest = max(round(gt_size / unit), 1) * unit
            report.mistake(f"{path}.gt_size", f"{gt_size} is not a multiple of {unit} ({name}); nearest: {nearest}")
        elif isinstance(gt_size, int) and hasattr(network, "pixels_per_position"):
            _compare_maps(network, gt_size, report)


def _compare_maps(network: Any, gt_size: int, report: Report) -> None:
    """Reports a memory made for other maps than the training's: a mistake where it can read no others."""
    given, size = list(network.map_size), gt_size // network.pixels_per_position
    if given == [size, size]:
        return
    text = f"{given}, but the maps of datasets.train.gt_size {gt_size} are {size} × {size}: leave it out"
    if any(kind == "memory" and settings_of(part).get("embedding") == "fc" for _, kind, part in report.components):
        report.mistake("network_g.map_size", text)
    else:
        report.notes.append(f"network_g.map_size: {text}")
