"""Writes results as one page of HTML that loads nothing: ``report.html``, and the page of ``vsr compare``."""

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import yaml

import vsr
from vsr.evaluation.draw.comparison import FULL_SCALE
from vsr.evaluation.page.fitting import fitting, joined
from vsr.evaluation.page.payload import SetData, common_sets, digits_of, set_data
from vsr.evaluation.page.results import Result
from vsr.utils.files import write_text_atomically

TEMPLATES = Path(__file__).parent / "template"
SCRIPTS = "viewer.js", "curves.js", "page.js"


def write_report(file: Path, result: Result, former: Result | None) -> None:
    """Writes the report of a test; ``former`` is the test before, if its results are there."""
    former_sets = {} if former is None else former.scores
    sets = []
    shots = fitting({name: result.shots.get(name, []) for name in result.scores})
    for name in result.scores:
        is_known = former is not None and name in former_sets and _is_comparable(name, result, former)
        shown = [former, result] if former is not None and is_known else [result]
        sets.append(set_data(name, shown, shots[name], baselines_first=True))
    report = result.report
    weights = f"weights {report['weights']}" + (" (EMA)" if report["weights_entry"] == "params_ema" else "")
    lead = f"{report['network']}, {weights}; tested {report['tested'].replace('T', ' ')} on {report['device']}"
    _write(file, "Test", report["name"], lead, [], sets, [result], report["tested"])


def write_comparison(file: Path, results: Sequence[Result], notes: list[str]) -> None:
    """Writes a page that shows results side by side; ``notes`` are remarks at its top."""
    names = common_sets(results)
    shots = fitting({name: joined({r.label: r.shots.get(name, []) for r in results}) for name in names})
    sets = [set_data(name, results, shots[name], baselines_first=False) for name in names]
    title = " · ".join(result.label for result in results)
    lead = f"{len(results)} results; differences are to {results[0].label}"
    _write(file, "Comparison", title, lead, notes, sets, results, None)


def _is_comparable(name: str, result: Result, former: Result) -> bool:
    """Returns whether the test before measured the same frames in the same way."""
    entries = [r.report["datasets"][name] for r in (result, former)]
    keys = [{(s.clip, s.frame) for s in r.scores[name] if s.method == "network"} for r in (result, former)]
    names = [{metric: p["name"] for metric, p in entry.get("protocols", {}).items()} for entry in entries]
    return keys[0] == keys[1] and names[0] == names[1]


def _write(
    file: Path,
    kind: str,
    title: str,
    lead: str,
    notes: list[str],
    sets: list[SetData],
    results: Sequence[Result],
    tested: str | None,
) -> None:
    data = {"tested": tested, "sets": [own.data for own in sets]}
    text = Template(_read("page.html")).substitute(
        title=escape(title),
        kind=kind,
        lead=escape(lead),
        notes="".join(f'<p class="note">{escape(note)}</p>' for note in notes),
        sets="\n".join(_section(index, own) for index, own in enumerate(sets)),
        details=details(results),
        version=vsr.__version__,
        style=_read("style.css"),
        script="\n".join(_read(name) for name in SCRIPTS),
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),  # ends no <script>
    )
    write_text_atomically(file, text)


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _section(index: int, own: SetData) -> str:
    texts = list(dict.fromkeys(own.protocols.values()))
    protocol = texts[0] if len(texts) == 1 else "; ".join(f"{label}: {text}" for label, text in own.protocols.items())
    return Template(_read("set.html")).substitute(
        index=index,
        name=escape(own.name),
        protocol=escape(protocol),
        tiles=_tiles(own),
        tables="\n".join(_table(own, metric) for metric in own.metrics)
        or "<p>No ground truth: nothing was measured.</p>",
        full_scale=FULL_SCALE,
    )


def _tiles(own: SetData) -> str:
    """Returns the means of the last result, and how far they are from the first method's."""
    if not own.metrics or own.methods[0] in own.results:  # a comparison has no one result to show
        return ""
    method, first = own.results[-1], own.methods[0]
    tiles = []
    for metric in own.metrics:
        value, base = (own.means[name]["mean"].get(metric, math.nan) for name in (method, first))
        digits = digits_of([value])
        gap = f", {signed(value - base, digits)} to {first}" if method != first and math.isfinite(value - base) else ""
        tiles.append(f"<li><b>{number(value, digits)}</b><span>{escape(metric + gap)}</span></li>")
    clips = own.data["clips"]
    frames = sum(len(clip["frames"]) for clip in clips)
    tiles.append(f"<li><b>{frames}</b><span>frames of {len(clips)} clip{'s' * (len(clips) != 1)}</span></li>")
    return f'<ul class="tiles">{"".join(tiles)}</ul>'


def _table(own: SetData, metric: str) -> str:
    """Returns the table of a metric: a row for each clip, a column for each method."""
    methods = [method for method in own.methods if metric in own.means[method]["mean"]]
    rows = [name for name in dict.fromkeys(name for method in methods for name in own.means[method]) if name != "mean"]
    values = {clip: [own.means[m].get(clip, {}).get(metric, math.nan) for m in methods] for clip in [*rows, "mean"]}
    digits = digits_of([value for row in values.values() for value in row])
    rivals = [method in own.results or own.methods[0] not in own.results for method in methods]
    is_lower = metric in own.lower_is_better
    head = "".join(f'<th scope="col">{escape(method)}</th>' for method in methods)
    body = []
    for clip, row in values.items():
        name = f'<button type="button" data-clip="{escape(clip)}">{escape(clip)}</button>' if clip != "mean" else "mean"
        compared = [value for value, is_rival in zip(row, rivals, strict=True) if is_rival and not math.isnan(value)]
        best = (min if is_lower else max)(compared, default=math.nan)
        is_best = [is_rival and value == best and len(row) > 1 for value, is_rival in zip(row, rivals, strict=True)]
        gaps = [math.nan, *(value - row[0] for value in row[1:])]
        cells = "".join(_cell(*cell, digits, is_lower) for cell in zip(row, gaps, is_best, strict=True))
        body.append(f'<tr{" class=mean" * (clip == "mean")}><th scope="row">{name}</th>{cells}</tr>')
    hint = f"{'lower' if is_lower else 'higher'} is better"
    hint += f"; differences are to {methods[0]}" if len(methods) > 1 else ""
    caption = f"<caption>{escape(metric)} <small>{escape(hint)}</small></caption>"
    head = f'<thead><tr><th scope="col">clip</th>{head}</tr></thead>'
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(metric)} by clip">'
        f"<table>{caption}{head}<tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(value: float, gap: float, is_best: bool, digits: int, is_lower: bool) -> str:
    """Returns a cell: the value, bold if it is the best, and its difference to the first of the row."""
    small = ""
    if math.isfinite(gap):
        kind = "" if round(gap, digits) == 0 else "better" if (gap < 0) == is_lower else "worse"
        small = f'<small class="{kind}">{signed(gap, digits)}</small>'
    return f"<td{' class=best' * is_best}>{number(value, digits)}{small}</td>"


def signed(value: float, digits: int) -> str:
    """Returns a difference as text, with a typographic minus."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # -0.0 + 0.0 is 0.0


def number(value: float, digits: int) -> str:
    """Returns a value as text."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–" if math.isnan(value) else "∞"


def details(results: Sequence[Result]) -> str:
    """Returns the end of a page: how was measured, the options, and those that differ between results."""
    parts = []
    if len(results) > 1:
        options = [flat(result.report.get("options", {})) for result in results]
        keys = [
            key
            for key in dict.fromkeys(k for own in options for k in own)
            if len({str(o.get(key)) for o in options}) > 1
        ]
        head = "".join(f"<th scope=col>{escape(result.label)}</th>" for result in results)
        rows = "".join(_row(key, *(own.get(key, "–") for own in options)) for key in keys)
        table = f"<table><thead><tr><th scope=col>option</th>{head}</tr></thead><tbody>{rows}</tbody></table>"
        parts.append(
            f"<details open><summary>Options that differ</summary>{table if keys else '<p>None.</p>'}</details>"
        )
    for result in results:
        report = result.report
        rest = {key: value for key, value in report.items() if key not in ("options", "datasets", "format", "complete")}
        rows = "".join(_row(key, value) for key, value in flat(rest).items())
        own = {"Weights and versions": f"<table><tbody>{rows}</tbody></table>"}
        how = {n: {k: v for k, v in e.items() if not k.startswith("scores")} for n, e in report["datasets"].items()}
        rows = "".join(_row(key, value) for key, value in flat(how).items())
        own["Protocols"] = f"<table><tbody>{rows}</tbody></table>"
        options = yaml.safe_dump(report.get("options", {}), sort_keys=False, allow_unicode=True)
        own["Options"] = f"<pre tabindex=0>{escape(options)}</pre>"
        if len(results) > 1:  # one for each result
            text = "".join(f"<h4>{title}</h4>{content}" for title, content in own.items())
            own = {f"{escape(result.label)}: weights, versions, protocols, options": text}
        parts += [f"<details><summary>{title}</summary>{content}</details>" for title, content in own.items()]
    return "\n".join(parts)


def _row(key: str, *values: object) -> str:
    cells = "".join(f"<td>{escape(str(value))}</td>" for value in values)
    return f"<tr><th scope=row>{escape(key)}</th>{cells}</tr>"


def flat(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Returns the leaves of a tree by their paths, ``network_g.num_feat``."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{path}{key}.") if isinstance(value, dict) and value else {f"{path}{key}": value}
    return leaves
