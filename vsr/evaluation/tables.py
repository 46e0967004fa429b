"""Turns the results of runs into a table: Markdown, CSV and a strip of pictures."""

import json
import math
from datetime import date
from pathlib import Path
from typing import Any

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

Results = dict[str, list[Path]]  # by the model's title, the result folders of its seeds
COSTS = ("parameters", "macs", "milliseconds", "training")
NOTE = (
    "± is the standard deviation over seeds. Δ is the mean difference in PSNR to the first row, over pairs of the same "
    "clip and seed, with a 95 % interval (Student's t). An interval that holds 0 shows no difference."
)


def write_table(file: Path, heading: str, remark: str, results: Results, options: Options, command: str) -> None:
    """Writes ``file``.md, .csv and .png; the first model is the reference of the others.

    ``options`` are a run's, for the test set and the scale; the Markdown has the ``remark`` below the table, and quotes
    the command line ``command``.
    """
    first = next(iter(results.values()))
    reference = clip_scores(first, "network")
    rows = []
    for title, folders in results.items():
        costs = [json.loads((folder / "costs.json").read_text()) for folder in folders]
        rows.append(summarise(title, clip_scores(folders, "network"), reference, mean_costs(costs)))
    rows.append(summarise("bicubic", clip_scores(first, "bicubic"), reference, {}))

    metrics = list(next(iter(reference[0].values())))
    folders = [folder for own in results.values() for folder in own]
    text = markdown(heading, metrics, rows, [remark, *provenance(folders, len(first), command)])
    write_text_atomically(file.with_suffix(".md"), text)
    columns = ["model", *metrics, *(f"{metric}_std" for metric in metrics), "difference", "half_interval", *COSTS]
    write_csv(file.with_suffix(".csv"), columns, rows, line_end="\n")
    write_image(file.with_suffix(".png"), strip(results, options))
    logger.info("%s\nwritten: %s.md, .csv, .png", text, file)


def clip_scores(folders: list[Path], method: str) -> list[Values]:
    """Returns a method's means by clip and metric, of the last data set of each result folder."""
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


def summarise(title: str, scores: list[Values], reference: list[Values], costs: dict[str, Any]) -> dict[str, Any]:
    """Returns a model's row, by column, from the scores of each of its seeds and of the reference's."""
    row: dict[str, Any] = {"model": title}
    for metric in next(iter(scores[0].values())):
        by_seed = [float(np.mean([values[metric] for values in seed.values()])) for seed in scores]
        row[metric] = float(np.mean(by_seed))
        row[f"{metric}_std"] = float(np.std(by_seed, ddof=1)) if len(set(by_seed)) > 1 else None
    if scores != reference:
        seeds = zip(scores, reference, strict=True)
        pairs = [own[clip]["psnr"] - other[clip]["psnr"] for own, other in seeds for clip in own]
        row |= {"difference": float(np.mean(pairs)), "half_interval": half_interval(pairs)}
    return row | {cost: costs[cost] for cost in COSTS if cost in costs}


def mean_costs(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns a model's costs: those of the first seed, but the mean of the known times of the trainings."""
    known = [costs["training"] for costs in seeds if costs.get("training")]
    return seeds[0] | {"training": float(np.mean(known)) if known else None}


def half_interval(differences: list[float]) -> float | None:
    """Returns half the width of the 95 % interval of a mean; None for fewer than two values."""
    n = len(differences)
    return None if n < 2 else float(student_t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / n**0.5)


def markdown(heading: str, metrics: list[str], rows: list[dict[str, Any]], provenance: list[str]) -> str:
    """Returns the table as a Markdown document."""
    columns = ["model", *metrics, "Δ (95 %)", "parameters", "GMACs", "ms per frame", "training, CPU min"]
    lines = [f"# {heading}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [row["model"]]
        cells += [_with_spread(row[metric], row[f"{metric}_std"], 4 if "ssim" in metric else 3) for metric in metrics]
        cells.append(_with_spread(row["difference"], row["half_interval"], 3, "+") if "difference" in row else "")
        if "macs" in row:
            cells += [f"{row['parameters']:,}", f"{row['macs'] / 1e9:.1f}", f"{row['milliseconds']:.0f}"]
            cells.append(f"{row['training'] / 60:.1f}" if row["training"] else "")
        else:
            cells += [""] * 4
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", NOTE, "", *(f"- {line}" for line in provenance), ""])


def provenance(folders: list[Path], seeds: int, command: str) -> list[str]:
    """Returns the lines below the table of all runs: command, length, test set, device, versions."""
    report = json.loads((folders[0] / "metrics.json").read_text())
    dataset, entry = list(report["datasets"].items())[-1]
    costs = [json.loads((folder / "costs.json").read_text()) for folder in folders]
    lengths = sorted({own["options"]["train"]["total_iter"] for own in costs})
    clips = len(clip_scores(folders[:1], "network")[0])
    span = str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    return [
        f"`{command}`, {date.today().isoformat()}",
        f"{span} iterations, {seeds} seed(s); test set {dataset}: {clips} clip(s); "
        f"{protocol_names(entry['protocols'])}",
        f"{costs[0]['device']}; torch {report['versions']['torch']}, vsr {report['versions']['vsr']}",
    ]


def strip(results: Results, options: Options) -> np.ndarray:
    """Returns one crop from every model, of the first seed, beside LQ, bicubic and ground truth."""
    images = {}
    for title, (folder, *_) in results.items():
        images[title] = cv2.imread(str(folder / "example.png"))
        if images[title] is None:
            raise UserError(f"{folder}/example.png is missing or damaged: remove {folder}/costs.json and run again")
    entry = next(reversed(options.test_sets.values()))
    clip, index = middle_target(clips_of(entry.data, entry.name))
    truth = None if clip.gt is None else to_bgr(clip.gt(index))
    restored = Restored(clip.name, clip.frames[index], to_bgr(clip.lq(index)), truth, images)
    return comparison(restored, options.scale)


def _with_spread(value: float, spread: float | None, digits: int, sign: str = "") -> str:
    return f"{value:{sign}.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")
