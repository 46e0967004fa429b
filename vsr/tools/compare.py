"""Puts the results of several tests side by side: a table on the terminal, and a page with curves and pictures.

    vsr compare results/edvr results/edvr_memory
    vsr compare results/edvr results/edvr_memory results/basicvsr -o three.html

A result is a folder that vsr test wrote. Differences are to the first one.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from vsr.evaluation.page.payload import common_sets, digits_of, protocol_text
from vsr.evaluation.page.results import Result, read_result
from vsr.evaluation.page.write import number, signed, write_comparison
from vsr.evaluation.scores import average
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.log import start_log


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares results and returns the exit code."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="vsr compare", description=__doc__, formatter_class=formatter
    )
    parser.add_argument("results", nargs="+", metavar="RESULT", type=Path, help="folder of a test, results/NAME")
    text = "page to write (compare.html)"
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, default=Path("compare.html"), help=text)
    args = parser.parse_args(arguments)
    start_log()
    if args.output.is_file() and not args.output.read_bytes().lstrip()[:9].lower().startswith(b"<!doctype"):
        raise UserError(f"-o {args.output} exists and is no page: give another file")
    if len(args.results) < 2:
        raise UserError(f"one result, {args.results[0]}: name at least two; its own page is report.html in that folder")
    results = [read_result(folder, label) for folder, label in zip(args.results, labels(args.results), strict=True)]
    names = common_sets(results)
    if not names:
        own = "; ".join(f"{result.label} has {', '.join(result.scores)}" for result in results)
        raise UserError(f"the results have no test set in common: {own}")
    notes = [note for name in names for note in differences(name, results)]
    left_out = sorted({name for result in results for name in result.scores} - set(names))
    notes += [f"left out, because not all results have them: {', '.join(left_out)}"] if left_out else []
    for name in names:
        sys.stdout.write(table(name, results))
    sys.stdout.write("".join(f"note: {note}\n" for note in notes))
    write_comparison(args.output, results, notes)
    sys.stdout.write(f"page: {args.output}\n")
    return 0


def labels(folders: Sequence[Path]) -> list[str]:
    """Returns the shortest endings of the paths that tell them apart.

    Raises:
        UserError: a folder is named twice.
    """
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise UserError(f"a result is named twice: {', '.join(map(str, folders))}")
    count = 1
    while len({own[-count:] for own in parts}) < len(parts):
        count += 1
    return ["/".join(own[-count:]) for own in parts]


def differences(name: str, results: Sequence[Result]) -> list[str]:
    """Returns remarks on a test set that was not the same, or not measured in the same way, for all results."""
    notes = []
    frames = [{(score.clip, score.frame) for score in result.scores[name]} for result in results]
    if any(own != frames[0] for own in frames):
        counts = ", ".join(f"{result.label} {len(own)}" for result, own in zip(results, frames, strict=True))
        notes.append(f"{name}: the frames differ ({counts}): the means are not of the same frames")
    shared = [metric for metric, own in measures(name, results).items() if len(own) > 1]
    own_texts = [protocol_text(result.report["datasets"][name], shared) for result in results]
    if len({text for text in own_texts if text}) > 1:
        own = "; ".join(f"{result.label}: {text}" for result, text in zip(results, own_texts, strict=True))
        notes.append(f"{name}: the protocols differ ({own}): compare with care")
    alone = [f"{metric} of {own[0]}" for metric, own in measures(name, results).items() if len(own) == 1]
    notes += [f"{name}: measured for one result only, so without a table here: {', '.join(alone)}"] if alone else []
    return notes


def table(name: str, results: Sequence[Result]) -> str:
    """Returns the scores of a test set by clip as text, for each metric a table; differences are to the first."""
    means = [average(result.scores[name]).get("network", {}) for result in results]
    measured = measures(name, results)
    text = "" if measured else f"{name}: no ground truth, so there are no scores\n"
    for metric in (metric for metric, own in measured.items() if len(own) > 1):
        clips = dict.fromkeys(clip for own in means for clip, values in own.items() if metric in values)
        clips = [*(clip for clip in clips if clip != "mean"), "mean"]
        rows = [[own.get(clip, {}).get(metric, math.nan) for own in means] for clip in clips]
        digits = digits_of([value for row in rows for value in row])
        cells = [[name, *(result.label for result in results)]]
        for clip, row in zip(clips, rows, strict=True):
            gaps = [math.nan, *(value - row[0] for value in row[1:])]
            texts = [f" ({signed(gap, digits)})" if math.isfinite(gap) else "" for gap in gaps]
            cells.append([clip, *(number(value, digits) + text for value, text in zip(row, texts, strict=True))])
        text += f"{metric}\n" + _aligned(cells) + "\n"
    return text


def measures(name: str, results: Sequence[Result]) -> dict[str, list[str]]:
    """Returns the metrics of a test set, each with the labels of the results that have it."""
    found: dict[str, list[str]] = {}
    for result in results:
        own = (score for score in result.scores[name] if score.method == "network")
        for metric in dict.fromkeys(metric for score in own for metric in score.values):
            found.setdefault(metric, []).append(result.label)
    return found


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows with aligned columns: the first to the left, others to the right."""
    first, *others = ([len(cell) for cell in column] for column in zip(*rows, strict=True))
    widths = [max(lengths) + 2 for lengths in others]
    lines = []
    for name, *cells in rows:
        lines.append(f"  {name:<{max(first)}}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    exit_cleanly(main)
