"""The results of a test as a page and ``vsr compare`` read them: from memory, or from a results folder."""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from vsr.evaluation.page.album import Shot
from vsr.evaluation.page.images import from_data_uri
from vsr.evaluation.scores import FrameScore, Values, average
from vsr.utils.errors import UserError
from vsr.utils.log import logger

FORMAT = 1  # of metrics.json and metrics.csv; another number is another version
LABELS = "dataset", "method", "clip", "frame", "action", "camera"  # columns of metrics.csv that are no metrics
FORMER = "former test"
AGAIN = "test again (vsr test)"


class Result(NamedTuple):
    """The results of one test.

    Args:
        label: its name on the page.
        report: the content of ``metrics.json``.
        scores: the rows of ``metrics.csv``, by test set.
        shots: pictures, by test set.
    """

    label: str
    report: dict[str, Any]
    scores: dict[str, list[FrameScore]]
    shots: dict[str, list[Shot]]


def read_result(folder: Path, label: str, ending: str = "") -> Result:
    """Returns the results in a folder; with the ending ``.old``, those of the test before, without pictures.

    Raises:
        UserError: the folder is none of a test, is of another version, or the test did not finish.
    """
    report, rows = _report(folder / f"metrics.json{ending}"), _rows(folder / f"metrics.csv{ending}")
    scores: dict[str, list[FrameScore]] = {name: [] for name in report["datasets"]}
    for dataset, score in rows:
        scores.setdefault(dataset, []).append(score)
    for name, own in scores.items():
        if not _belong_together(report["datasets"].get(name), own):
            text = f"{folder}: metrics.csv{ending} and metrics.json{ending} are of different tests"
            raise UserError(f"{text} (test set {name}): {AGAIN}")
    page = folder / "report.html"
    shots = pictures_of(page, report.get("tested")) if not ending and page.is_file() else {}
    return Result(label, report, scores, shots)


def former_result(folder: Path) -> Result | None:
    """Returns the results of the test before, if the folder keeps them in this version's format."""
    try:
        return read_result(folder, FORMER, ".old")
    except UserError:
        return None


def pictures_of(page: Path, tested: str | None) -> dict[str, list[Shot]]:
    """Returns the pictures in a report by test set; none, with a warning, if it is of another test or damaged."""
    text = page.read_text(encoding="utf-8", errors="replace")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    try:
        data = json.loads(found[1] if found else "")
        if data["tested"] == tested:
            return {
                own["name"]: [_shot(clip["name"], shot) for clip in own["clips"] for shot in clip["shots"]]
                for own in data["sets"]
            }
        reason = "is of another test than metrics.json"
    except (ValueError, KeyError, TypeError) as error:
        reason = f"is damaged ({error!r})"
    logger.warning("%s %s: its pictures are left out", page, reason)
    return {}


def _shot(clip: str, shot: dict[str, Any]) -> Shot:
    images, weights = ({title: from_data_uri(uri) for title, uri in shot[key].items()} for key in ("images", "weights"))
    return Shot(clip, shot["frame"], tuple(shot["kinds"]), shot["metric"], shot["value"], images, weights)


def _report(file: Path) -> dict[str, Any]:
    try:
        report = json.loads(file.read_text())
    except FileNotFoundError:
        raise UserError(
            f"{file.parent} has no {file.name}: expected a folder that vsr test wrote, results/NAME"
        ) from None
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): {AGAIN}") from None
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        got = report.get("format", "none") if isinstance(report, dict) else "none"
        raise UserError(f"{file} is of another version (format {got}, expected {FORMAT}): {AGAIN}")
    if not report.get("complete"):
        raise UserError(f"{file.parent}: its test did not finish ({len(report['datasets'])} test sets done): {AGAIN}")
    return report


def _rows(file: Path) -> list[tuple[str, FrameScore]]:
    try:
        with file.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        return [(row["dataset"], _score(row)) for row in rows]
    except FileNotFoundError:
        raise UserError(f"{file.parent} has no {file.name}: {AGAIN}") from None
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{file} is damaged ({error!r}): {AGAIN}") from None


def _score(row: dict[str, str]) -> FrameScore:
    values = {name: float(value) for name, value in row.items() if name not in LABELS and value != ""}
    return FrameScore(row["method"], row["clip"], row["frame"], values, row.get("action", ""), row.get("camera", ""))


def _belong_together(dataset: dict[str, Any] | None, scores: list[FrameScore]) -> bool:
    """Returns whether the means in ``metrics.json`` are those of the rows."""
    if dataset is None:
        return False
    means: dict[str, Values] = average(scores)
    if means.keys() != dataset["scores"].keys():
        return False
    pairs = [
        (dataset["scores"][method].get(clip, {}).get(metric), value)
        for method, clips in means.items()
        for clip, values in clips.items()
        for metric, value in values.items()
    ]
    return all(
        (known is None) == (not math.isfinite(value)) and (known is None or math.isclose(known, value, rel_tol=1e-6))
        for known, value in pairs
    )
