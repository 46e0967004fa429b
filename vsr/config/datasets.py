"""Checks the section ``datasets`` and opens each data set once."""

import inspect
from collections.abc import Mapping, Sized
from dataclasses import fields
from functools import partial
from typing import Any, Literal

from vsr.config.options import MADE_AS, DatasetOptions, LoaderOptions, folder_name_problem
from vsr.config.schema import Report, check_component, check_value, describe, options_of, resolved
from vsr.contracts import DataSpec, HasSpec, Resizable, data_spec, shared_clips
from vsr.data.degrade.apply import degradation_problem
from vsr.data.degrade.compare import SAME, bicubic_psnr
from vsr.data.stream.sampler import TrainSampler

Need = Literal["train", "test", "both", "network"]
LOADER_KEYS = [field.name for field in fields(LoaderOptions)]


def open_datasets(tree: Mapping[str, Any], need: Need, report: Report) -> dict[str, DatasetOptions]:
    """Returns the data sets by phase, opened; those with mistakes are left out.

    ``need`` is that of load; ``train`` opens the test sets, too, but only to check them.
    """
    sections = tree.get("datasets")
    if not isinstance(sections, dict) or not sections:
        report.mistake("datasets", "missing" if not sections else f"expected a mapping, got {describe(sections)}")
        return {}
    if need != "test" and sections.get("train") is None:
        report.mistake("datasets.train", "missing: there is nothing to train on")
    datasets: dict[str, DatasetOptions] = {}
    for phase, section in sections.items():
        if phase != "train" and not str(phase).startswith(("val", "test")):
            report.mistake(f"datasets.{phase}", "unknown phase; phases are called train, val…, test…")
        elif section is not None and not isinstance(section, dict):
            report.mistake(f"datasets.{phase}", f"expected a mapping of keys, got {describe(section)}")
        elif section is not None:  # `val: ~` removes a data set
            names = {other.name for other in datasets.values() if "train" not in (phase, other.phase)}
            if (entry := _entry(phase, section, names, need, report)) is not None:
                datasets[phase] = entry
    trained_on = datasets["train"].spec if "train" in datasets else None
    for phase, entry in datasets.items():
        same = shared_clips(trained_on, entry.spec) if phase != "train" and trained_on and entry.spec else []
        if same:
            clips = ", ".join(f"'{clip}'" for clip in same[:5]) + (f" and {len(same) - 5} more" if same[5:] else "")
            text = f"shares frames with datasets.train, so that the network is measured on what it trains on: {clips}"
            report.warnings.append(f"datasets.{phase} {text}")
    return datasets


def _entry(phase: str, section: dict[str, Any], names: set[str], need: Need, report: Report) -> DatasetOptions | None:
    path, name = f"datasets.{phase}", section.get("name", phase)
    if not isinstance(name, str):
        report.mistake(f"{path}.name", f"expected text, got {describe(name)}; put it in quotes")
    elif problem := folder_name_problem(name):
        report.mistake(f"{path}.name", problem)
    elif name in names:
        report.mistake(f"{path}.name", f"another test set is called '{name}'; results need different names")
    own = {k: v for k, v in section.items() if k not in (*LOADER_KEYS, "name")}
    build = check_component(own, "dataset", path, report, beside=LOADER_KEYS, given=section)
    said = section.get("degradation") if section.get("degradation") in MADE_AS else None
    given = {k: v for k, v in section.items() if k in LOADER_KEYS and not (k == "degradation" and said)}
    loader = check_value(given, LoaderOptions, path, report)
    if build is None or loader is None:
        return None
    data, spec = (None, None) if (phase, need) == ("train", "test") else _opened(build, path, report)
    stages: list[Any] = []
    if data is not None and spec is not None and phase == "train":
        _check_training_set(data, spec, loader, path, report)
        stages = _stages(data, loader, path, report)
        _compare_with_bicubic(data, said, path, report)
    report.notes += [f"{path}: {note}" for note in (spec.notes if spec else ())]
    is_needed = phase == "train" or phase.startswith("val") or need != "train"
    return DatasetOptions(phase, str(name), resolved(build), loader, spec, data if is_needed else None, stages)


def _opened(build: "partial[Any]", path: str, report: Report) -> tuple[Any, DataSpec | None]:
    """Returns a data set and its spec; None for a data set that cannot be opened, and for an unknown spec."""
    name, failure = build.func.__name__, None
    # made in two steps: ours set `spec` before they look for files, so that it is known where files are missing, too
    data = build.func.__new__(build.func) if inspect.isclass(build.func) else None
    try:
        if data is None:
            data = build()
        else:
            data.__init__(**build.keywords)
    except (FileNotFoundError, ValueError) as error:
        failure = error
    spec = data_spec(data) if failure is None or isinstance(data, HasSpec) else None
    purpose = "train" if path == "datasets.train" else "test"
    if spec is not None and purpose not in spec.phases:
        reason = "testing: it draws no random samples" if purpose == "train" else "training: its samples are random"
        hint = "; try VideoTestDataset" if (purpose, spec.task) == ("test", "super-resolution") else ""
        report.mistake(f"{path}.type", f"{name} is for {reason}{hint}")
    elif failure is not None:
        report.refusal(failure, path, options_of(build.func))
    elif not isinstance(data, Sized):
        report.mistake(path, f"{name} has no __len__: define one that returns the number of its samples")
    elif purpose == "test" and len(data) == 0:
        report.mistake(path, "the data set is empty: nothing to measure; check its list and folders")
    else:
        return data, spec
    return None, spec


def _stages(data: Any, loader: LoaderOptions, path: str, report: Report) -> list[Any]:
    """Returns the data sets of the later stages of training."""
    stages = [data]
    for number, stage in enumerate(loader.stages):
        if not isinstance(stages[-1], Resizable):
            report.mistake(
                f"{path}.stages", f"{type(data).__name__} cannot resize its samples, see contracts.Resizable"
            )
            break
        try:
            stages.append(stages[-1].resized(stage.num_frame, stage.gt_size))
        except ValueError as error:
            report.mistake(f"{path}.stages[{number}]", str(error))
            break
    return stages[1:]


def _compare_with_bicubic(data: Any, said: str | None, path: str, report: Report) -> None:
    """Notes whether an LQ frame is bicubic of its GT frame; warns if the options say otherwise (``BI`` or ``BD``)."""
    if (found := bicubic_psnr(data)) is None:
        return
    key, psnr = found
    result = f"LQ frame '{key}' is {'' if psnr >= SAME else 'not '}MATLAB's bicubic of its GT frame ({psnr:.1f} dB)"
    if said is not None and (psnr >= SAME) != (said == "BI"):
        report.warnings.append(
            f"{path}.degradation is {said}, but {result}: check dataroot_lq, or make the frames anew"
        )
    else:
        report.notes.append(f"{path}: {result}")


def _check_training_set(data: Any, spec: DataSpec, loader: LoaderOptions, path: str, report: Report) -> None:
    try:
        TrainSampler(len(data), loader.dataset_enlarge_ratio)
    except ValueError as error:
        report.refusal(error, path, LOADER_KEYS)
    if spec.gap is not None:
        report.mistake(path, f"{spec.gap}; training needs every frame between the first and the last of a clip")
    if (unable := degradation_problem(spec, loader.degradation is not None)) is not None:
        report.mistake(f"{path}.{unable[0]}", unable[1])
