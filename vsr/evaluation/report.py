"""The results of a test: tables, ``metrics.csv`` and ``metrics.json``."""

import csv
import io
import json
import math
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import vsr
from vsr.contracts import Clip, Spec
from vsr.evaluation.restore import padding_of
from vsr.evaluation.scores import FrameScore, Values
from vsr.metrics import protocol_for, traits_of
from vsr.utils.files import write_text_atomically
from vsr.utils.log import logger


def show_table(means: Values, caption: str, folder: Path, name: str) -> None:
    """Logs the means of a test set, a row per method, and writes them to ``NAME_table.txt``."""
    width = max(len(method) for method in means) + 2
    columns = list(dict.fromkeys(column for row in means.values() for column in row))
    lines = [name, " " * width + "".join(f"{column:>12}" for column in columns)]
    for method, row in means.items():
        cells = [f"{row[column]:.4f}" if column in row else "-" for column in columns]
        lines.append(f"{method:<{width}}" + "".join(f"{cell:>12}" for cell in cells))
    text = "\n".join([*lines, caption, f"picture: {picture_file(folder, name)}"])
    logger.info(text)
    write_text_atomically(folder / f"{name}_table.txt", f"{text}\n")


def picture_file(folder: Path, dataset: str) -> Path:
    """Returns the file of a test set's side-by-side picture."""
    return folder / "visualization" / f"{dataset}_comparison.png"


def describe_protocols(
    name: str,
    clips: list[Clip],
    spec: Spec,
    metrics: dict[str, Any],
    degradation: str | None,
    also: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the protocol of each metric, by its name, with the published value of bicubic.

    ``name`` and ``clips`` are the test set's, ``degradation`` is its DataSpec's; the metrics are partials, by name;
    ``also`` names further settings, see plan.deviations.
    """
    measured = {clip.name: (len(clip.targets), clip.size) for clip in clips}
    padding = "+".join(sorted({padding_of(clip, spec.num_frames) for clip in clips}))
    is_bd = degradation is not None and degradation.startswith("BD")
    described = {}
    for metric, call in metrics.items():
        settings = {key: call.keywords[key] for key in ("crop_border", "test_y_channel") if key in call.keywords}
        protocol = protocol_for(name, measured, padding, spec.scale, **settings, is_bd=is_bd, also=also)
        published = protocol.bicubic.get(call.func.__name__.removeprefix("calculate_"))
        how = traits_of(call).how
        described[metric] = protocol._asdict() | {"bicubic": published} | ({"measure": how} if how else {})
    return described


def protocol_names(protocols: dict[str, Any]) -> str:
    """Returns each metric with its protocol's name, "psnr reds4-rgb, ssim reds4-rgb"."""
    return ", ".join(f"{metric} {protocol['name']}" for metric, protocol in protocols.items())


def warn_of_exact_frames(scores: list[FrameScore]) -> None:
    """Warns of frames that equal the ground truth, such as black ones: their PSNR, and its mean, is infinite."""
    exact = [f"{score.clip}/{score.frame} ({score.method})" for score in scores if math.inf in score.values.values()]
    if exact:
        logger.warning("%d frames equal the truth: their PSNR and its mean are infinite: %s", len(exact), exact[0])


def warn_of_other_frames(protocols: dict[str, Any], means: dict[str, float]) -> None:
    """Warns where bicubic (its means, by metric) does not reach the protocol's published value."""
    for metric, protocol in protocols.items():
        published = protocol["bicubic"]
        if published is not None and not math.isclose(means[metric], published, rel_tol=1e-3):
            logger.warning(
                f"{protocol['name']}: bicubic gives {metric} {means[metric]:.4f}, published is {published:.4f}: these "
                "are not the published frames (another downscaling, shifted frames, BGR); do not compare results"
            )


def keep_former_results(folder: Path) -> None:
    """Renames ``metrics.csv``, ``metrics.json`` and ``report.html`` of an earlier test to ``metrics.csv.old``, …."""
    files = [folder / name for name in ("metrics.csv", "metrics.json", "report.html")]
    if files[1].exists():
        for file in filter(Path.exists, files):
            file.replace(f"{file}.old")
        logger.info("the former results are now %s.old and metrics.csv.old", files[1])


def write_results(folder: Path, report: dict[str, Any], scores: list[tuple[str, FrameScore]]) -> None:
    """Writes ``metrics.csv``, a row per frame and method, and ``metrics.json``, means and how they were measured."""
    metrics = list(dict.fromkeys(name for _, score in scores for name in score.values))
    labels = [label for label in ("action", "camera") if any(getattr(score, label) for _, score in scores)]
    columns = ["dataset", "method", "clip", "frame", *labels, *metrics]
    rows = [{"dataset": dataset, **score._asdict(), **score.values} for dataset, score in scores]
    write_csv(folder / "metrics.csv", columns, rows)
    write_text_atomically(folder / "metrics.json", json.dumps(_without_infinity(report), indent=2) + "\n")


def write_csv(file: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]], line_end: str = "\r\n") -> None:
    """Writes the columns of the rows; a value that a row lacks is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator=line_end)
    writer.writeheader()
    writer.writerows(rows)
    write_text_atomically(file, text.getvalue())


def _without_infinity(value: Any) -> Any:
    """Returns a tree of values with None for infinity and NaN, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _without_infinity(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """Returns the versions that a number depends on."""
    modules = {"vsr": vsr, "torch": torch, "numpy": np, "opencv": cv2}
    return {"python": platform.python_version(), **{name: module.__version__ for name, module in modules.items()}}
