"""Turns the results of runs into a table: Markdown, CSV and a strip of pictures."""

import csv
import io
import json
import math
from datetime import date
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from scipy.stats import t as student_t

from vsr.config.options import Options
from vsr.evaluation.draw.comparison import comparison
from vsr.evaluation.draw.images import to_bgr, write_image
from vsr.evaluation.report import protocol_names
from vsr.evaluation.restore import clips_of, middle_target
from vsr.evaluation.scores import Restored
from vsr.utils.errors import UserError
from vsr.utils.files import write_text_atomically
from vsr.utils.log import logger

Scores = dict[str, dict[str, float]]  # by clip and metric
NOTE = (
    "± is the standard deviation over seeds. Δ is the mean difference in PSNR to the first row, over pairs of the same "
    "clip and seed, with a 95 % interval (Student's t). An interval that holds 0 shows no difference. The experiments "
    "are named in the original project's README; its values are not public, and these are our runs."
)


class Row(NamedTuple):
    """A model of a table: its title and the result folders of its seeds."""

    title: str
    results: list[Path]


class Summary(NamedTuple):
    """A line of a table."""

    title: str
    means: dict[str, float]  # by metric: over clips, then seeds
    spreads: dict[str, float | None]  # standard deviation over seeds
    difference: float | None  # of PSNR, to the first row
    interval: float | None  # half of its 95 % interval
    costs: dict[str, float]


def write_table(file: Path, heading: str, rows: list[Row], options: Options, command: str) -> None:
    """Writes ``file``.md, .csv and .png.

    Args:
        file: without a suffix.
        heading: of the Markdown.
        rows: the others are compared with the first.
        options: of a run, for the test set and the scale.
        command: the command line.
    """
    reference = [clip_scores(folder, "network") for folder in rows[0].results]
    summaries = []
    for row in rows:
        costs = json.loads((row.results[0] / "costs.json").read_text())
        scores = [clip_scores(folder, "network") for folder in row.results]
        summaries.append(summarise(row.title, scores, reference, costs))
    bicubic = [clip_scores(folder, "bicubic") for folder in rows[0].results]
    summaries.append(summarise("bicubic", bicubic, reference, {}))

    text = markdown(heading, summaries, provenance(rows, options, command))
    write_text_atomically(file.with_suffix(".md"), text)
    write_text_atomically(file.with_suffix(".csv"), as_csv(summaries))
    write_image(file.with_suffix(".png"), strip(rows, options))
    logger.info("%s\nwritten: %s.md, .csv, .png", text, file)


def clip_scores(folder: Path, method: str) -> Scores:
    """Returns a method's means by clip and metric, from the last data set of a result folder.

    Raises:
        UserError: the folder has no such results.
    """
    try:
        datasets = json.loads((folder / "metrics.json").read_text())["datasets"]
        scores = list(datasets.values())[-1]["scores"][method]
    except (OSError, KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"{folder}/metrics.json has no scores of {method} ({error!r}): remove it and test again"
        ) from None
    return {
        clip: {metric: math.nan if value is None else value for metric, value in values.items()}
        for clip, values in scores.items()
        if clip != "mean"
    }


def summarise(title: str, scores: list[Scores], reference: list[Scores], costs: dict[str, float]) -> Summary:
    """Returns a model's line.

    Args:
        title: of the model.
        scores: by seed.
        reference: of the model to compare with, by seed.
        costs: parameters, macs, milliseconds; empty where there is no network.
    """
    metrics = list(next(iter(scores[0].values())))
    by_seed = {m: [float(np.mean([values[m] for values in seed.values()])) for seed in scores] for m in metrics}
    spreads = {m: float(np.std(values, ddof=1)) if len(set(values)) > 1 else None for m, values in by_seed.items()}
    pairs = [
        own[clip]["psnr"] - other[clip]["psnr"] for own, other in zip(scores, reference, strict=True) for clip in own
    ]
    return Summary(
        title,
        {m: float(np.mean(values)) for m, values in by_seed.items()},
        spreads,
        float(np.mean(pairs)) if scores != reference else None,
        half_interval(pairs) if scores != reference else None,
        costs,
    )


def half_interval(differences: list[float]) -> float | None:
    """Returns half the width of the 95 % interval of a mean; None for fewer than two values."""
    n = len(differences)
    if n < 2:
        return None
    return float(student_t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / n**0.5)


def markdown(heading: str, summaries: list[Summary], provenance: list[str]) -> str:
    """Returns the table as a Markdown document."""
    metrics = list(summaries[0].means)
    columns = ["model", *metrics, "Δ (95 %)", "parameters", "GMACs", "ms per frame"]
    lines = [f"# {heading}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for summary in summaries:
        cells = [summary.title, *(_with_spread(summary, metric) for metric in metrics)]
        interval = "" if summary.interval is None else f" ± {summary.interval:.3f}"
        cells.append("" if summary.difference is None else f"{summary.difference:+.3f}{interval}")
        if summary.costs:
            cells += [f"{summary.costs['parameters']:,}", f"{summary.costs['macs'] / 1e9:.1f}"]
            cells.append(f"{summary.costs['milliseconds']:.0f}")
        else:
            cells += [""] * 3
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", NOTE, "", *(f"- {line}" for line in provenance), ""])


def as_csv(summaries: list[Summary]) -> str:
    """Returns the table with unrounded values."""
    metrics = list(summaries[0].means)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    costs = ["parameters", "macs", "milliseconds"]
    spreads = [f"{metric}_std" for metric in metrics]
    writer.writerow(["model", *metrics, *spreads, "difference", "half_interval", *costs])
    for summary in summaries:
        values = [*summary.means.values(), *summary.spreads.values(), summary.difference, summary.interval]
        writer.writerow([summary.title, *values, *(summary.costs.get(cost) for cost in costs)])
    return text.getvalue()


def provenance(rows: list[Row], options: Options, command: str) -> list[str]:
    """Returns the lines below the table: command, length, test set, device, versions."""
    results = rows[0].results
    report = json.loads((results[0] / "metrics.json").read_text())
    dataset, entry = list(report["datasets"].items())[-1]
    device = json.loads((results[0] / "costs.json").read_text())["device"]
    clips = len(clip_scores(results[0], "network"))
    length = f"{options.train.total_iter} iterations, {len(results)} seed(s)"
    return [
        f"`{command}`, {date.today().isoformat()}",
        f"{length}; test set {dataset}: {clips} clip(s); {protocol_names(entry['protocols'])}",
        f"{device}; torch {report['versions']['torch']}, vsr {report['versions']['vsr']}",
    ]


def strip(rows: list[Row], options: Options) -> np.ndarray:
    """Returns one crop from every model, of the first seed, beside LQ, bicubic and ground truth."""
    entry = next(reversed(options.test_sets.values()))
    clip, index = middle_target(clips_of(entry.data, entry.name))
    images = {row.title: _read_example(row.results[0]) for row in rows}
    truth = None if clip.gt is None else to_bgr(clip.gt(index))
    restored = Restored(clip.name, clip.frames[index], to_bgr(clip.lq(index)), truth, images)
    return comparison(restored, options.scale)


def _read_example(folder: Path) -> np.ndarray:
    image = cv2.imread(str(folder / "example.png"))
    if image is None:
        raise UserError(f"{folder}/example.png is missing or damaged: remove {folder}/costs.json and run again")
    return image


def _with_spread(summary: Summary, metric: str) -> str:
    digits = 4 if "ssim" in metric else 3
    spread = summary.spreads[metric]
    return f"{summary.means[metric]:.{digits}f}" + ("" if not spread else f" ± {spread:.{digits}f}")
