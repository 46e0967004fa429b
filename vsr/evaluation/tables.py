"""Turns the results of runs into a table: Markdown, CSV and a strip of pictures."""

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
from vsr.evaluation.report import protocol_names, write_csv
from vsr.evaluation.restore import clips_of, middle_target
from vsr.evaluation.scores import Restored, Values
from vsr.utils.errors import UserError
from vsr.utils.files import write_text_atomically
from vsr.utils.log import logger

Rows = dict[str, list[Path]]  # by the model's title, the result folders of its seeds
COSTS = ("parameters", "macs", "milliseconds")
NOTE = (
    "± is the standard deviation over seeds. Δ is the mean difference in PSNR to the first row, over pairs of the same "
    "clip and seed, with a 95 % interval (Student's t). An interval that holds 0 shows no difference. The experiments "
    "are named in the original project's README; its values are not public, and these are our runs."
)


class Summary(NamedTuple):
    """A row of a table."""

    title: str
    means: dict[str, float]  # by metric: over clips, then seeds
    spreads: dict[str, float | None]  # standard deviation over seeds
    difference: float | None  # of PSNR, to the first row
    interval: float | None  # half of its 95 % interval
    costs: dict[str, float]


def write_table(file: Path, heading: str, rows: Rows, options: Options, command: str) -> None:
    """Writes ``file``.md, .csv and .png.

    Args:
        file: without a suffix.
        heading: of the Markdown.
        rows: the first is the reference of the others.
        options: of a run, for the test set and the scale.
        command: the command line.
    """
    folders = next(iter(rows.values()))
    reference = clip_scores(folders, "network")
    summaries = []
    for title, results in rows.items():
        costs = json.loads((results[0] / "costs.json").read_text())
        summaries.append(summarise(title, clip_scores(results, "network"), reference, costs))
    summaries.append(summarise("bicubic", clip_scores(folders, "bicubic"), reference, {}))

    text = markdown(heading, summaries, provenance(folders, options, command))
    write_text_atomically(file.with_suffix(".md"), text)
    write_summaries(file.with_suffix(".csv"), summaries)
    write_image(file.with_suffix(".png"), strip(rows, options))
    logger.info("%s\nwritten: %s.md, .csv, .png", text, file)


def clip_scores(folders: list[Path], method: str) -> list[Values]:
    """Returns a method's means by clip and metric, of the last data set of each result folder.

    Raises:
        UserError: a folder has no such results.
    """
    found = []
    for folder in folders:
        try:
            datasets = json.loads((folder / "metrics.json").read_text())["datasets"]
            scores = list(datasets.values())[-1]["scores"][method]
        except (OSError, KeyError, IndexError, ValueError) as error:
            text = f"{folder}/metrics.json has no scores of {method} ({error!r}): remove it and test again"
            raise UserError(text) from None
        scores.pop("mean", None)
        found.append({clip: {m: math.nan if v is None else v for m, v in own.items()} for clip, own in scores.items()})
    return found


def summarise(title: str, scores: list[Values], reference: list[Values], costs: dict[str, float]) -> Summary:
    """Returns a model's row.

    Args:
        title: of the model.
        scores: of each seed.
        reference: of each seed of the model to compare with.
        costs: see COSTS; empty if there is no network.
    """
    means: dict[str, float] = {}
    spreads: dict[str, float | None] = {}
    for metric in next(iter(scores[0].values())):
        by_seed = [float(np.mean([values[metric] for values in seed.values()])) for seed in scores]
        means[metric] = float(np.mean(by_seed))
        spreads[metric] = float(np.std(by_seed, ddof=1)) if len(set(by_seed)) > 1 else None
    if scores == reference:
        return Summary(title, means, spreads, None, None, costs)
    seeds = zip(scores, reference, strict=True)
    pairs = [own[clip]["psnr"] - other[clip]["psnr"] for own, other in seeds for clip in own]
    return Summary(title, means, spreads, float(np.mean(pairs)), half_interval(pairs), costs)


def half_interval(differences: list[float]) -> float | None:
    """Returns half the width of the 95 % interval of a mean; None for fewer than two values."""
    n = len(differences)
    return None if n < 2 else float(student_t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / n**0.5)


def markdown(heading: str, summaries: list[Summary], provenance: list[str]) -> str:
    """Returns the table as a Markdown document."""
    columns = ["model", *summaries[0].means, "Δ (95 %)", "parameters", "GMACs", "ms per frame"]
    lines = [f"# {heading}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for summary in summaries:
        cells = [summary.title]
        for metric, mean in summary.means.items():
            digits, spread = 4 if "ssim" in metric else 3, summary.spreads[metric]
            cells.append(f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread else ""))
        interval = "" if summary.interval is None else f" ± {summary.interval:.3f}"
        cells.append("" if summary.difference is None else f"{summary.difference:+.3f}{interval}")
        parameters, macs, milliseconds = (summary.costs.get(cost, 0) for cost in COSTS)
        cells += [f"{parameters:,}", f"{macs / 1e9:.1f}", f"{milliseconds:.0f}"] if summary.costs else [""] * 3
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", NOTE, "", *(f"- {line}" for line in provenance), ""])


def write_summaries(file: Path, summaries: list[Summary]) -> None:
    """Writes the table with unrounded values."""
    metrics = list(summaries[0].means)
    spreads = [f"{metric}_std" for metric in metrics]
    rows = []
    for summary in summaries:
        row = {"model": summary.title, "difference": summary.difference, "half_interval": summary.interval}
        rows.append(row | summary.means | {f"{m}_std": v for m, v in summary.spreads.items()} | summary.costs)
    write_csv(file, ["model", *metrics, *spreads, "difference", "half_interval", *COSTS], rows, line_end="\n")


def provenance(results: list[Path], options: Options, command: str) -> list[str]:
    """Returns the lines below the table: command, length, test set, device, versions."""
    report = json.loads((results[0] / "metrics.json").read_text())
    dataset, entry = list(report["datasets"].items())[-1]
    device = json.loads((results[0] / "costs.json").read_text())["device"]
    clips = len(clip_scores(results[:1], "network")[0])
    length = f"{options.train.total_iter} iterations, {len(results)} seed(s)"
    return [
        f"`{command}`, {date.today().isoformat()}",
        f"{length}; test set {dataset}: {clips} clip(s); {protocol_names(entry['protocols'])}",
        f"{device}; torch {report['versions']['torch']}, vsr {report['versions']['vsr']}",
    ]


def strip(rows: Rows, options: Options) -> np.ndarray:
    """Returns one crop from every model, of the first seed, beside LQ, bicubic and ground truth."""
    images = {}
    for title, results in rows.items():
        images[title] = cv2.imread(str(results[0] / "example.png"))
        if images[title] is None:
            folder = results[0]
            raise UserError(f"{folder}/example.png is missing or damaged: remove {folder}/costs.json and run again")
    entry = next(reversed(options.test_sets.values()))
    clip, index = middle_target(clips_of(entry.data, entry.name))
    truth = None if clip.gt is None else to_bgr(clip.gt(index))
    restored = Restored(clip.name, clip.frames[index], to_bgr(clip.lq(index)), truth, images)
    return comparison(restored, options.scale)
