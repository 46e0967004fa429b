"""What a page shows of results, as plain data: its sets, methods, clips, curves and pictures."""

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from vsr.evaluation.page.album import Shot
from vsr.evaluation.page.images import data_uri, size_of
from vsr.evaluation.page.results import Result
from vsr.evaluation.scores import FrameScore, Values, average


class SetData(NamedTuple):
    """One test set of a page.

    Args:
        name: of the test set.
        metrics: their names.
        lower_is_better: those whose smallest value is the best.
        methods: columns of the tables; differences are to the first.
        results: those of the methods that are results, the networks'.
        means: by method, clip and metric; ``mean`` is the mean of the clips.
        protocols: by result, the text that names them.
        data: for the page's script.
    """

    name: str
    metrics: list[str]
    lower_is_better: set[str]
    methods: list[str]
    results: list[str]
    means: dict[str, Values]
    protocols: dict[str, str]
    data: dict[str, Any]


def common_sets(results: Sequence[Result]) -> list[str]:
    """Returns the test sets that every result has, in the first one's order."""
    return [name for name in results[0].scores if all(name in result.scores for result in results)]


def set_data(name: str, results: Sequence[Result], shots: list[Shot], baselines_first: bool) -> SetData:
    """Returns the data of a test set.

    Args:
        name: of the test set.
        results: the first one's baselines are shown.
        shots: with the pictures that fit into the page.
        baselines_first: whether differences are to the first baseline; else they are to the first result.
    """
    entries = [result.report["datasets"][name] for result in reversed(results)]
    scores = {result.label: [s for s in result.scores[name] if s.method == "network"] for result in results}
    baselines: dict[str, list[FrameScore]] = {}
    for score in results[0].scores[name]:
        if score.method != "network":
            baselines.setdefault(score.method, []).append(score)
    by_method = {**baselines, **scores} if baselines_first else {**scores, **baselines}
    by_method = {method: own for method, own in by_method.items() if own}
    found = dict.fromkeys(metric for own in by_method.values() for score in own for metric in score.values)
    order = dict.fromkeys(metric for entry in entries for metric in entry.get("protocols", {}))
    metrics = list({**{metric: None for metric in order if metric in found}, **found})  # in the order of the options
    means = {method: average(own)[own[0].method] for method, own in by_method.items()}
    labels = [result.label for result in results if result.label in by_method] or [result.label for result in results]
    lower = {metric for entry in entries for metric in entry.get("lower_is_better", [])}
    clips = _clips(by_method, metrics, shots)
    data = {"name": name, "metrics": metrics, "methods": list(by_method), "results": labels, "clips": clips}
    texts = {result.label: protocol_text(result.report["datasets"][name]) for result in results}
    return SetData(name, metrics, lower, list(by_method), labels, means, texts, data)


def protocol_text(entry: dict[str, Any], metrics: Collection[str] | None = None) -> str:
    """Returns how a test set was measured, "psnr reds4-rgb, ssim reds4-rgb"; empty where nothing was.

    ``metrics`` are those that are named; None names all.
    """
    protocols = {k: v["name"] for k, v in entry.get("protocols", {}).items() if metrics is None or k in metrics}
    return ", ".join(f"{metric} {name}" for metric, name in protocols.items())


def _clips(by_method: dict[str, list[FrameScore]], metrics: list[str], shots: list[Shot]) -> list[dict[str, Any]]:
    """Returns the clips with the values of every frame, and their pictures."""
    frames: dict[str, dict[str, int]] = {}  # by clip, the index of a frame
    for shown in (*(score for own in by_method.values() for score in own), *shots):
        known = frames.setdefault(shown.clip, {})
        known.setdefault(shown.frame, len(known))
    values: dict[str, dict[str, dict[str, list[float | str | None]]]] = {
        clip: {metric: {method: [None] * len(known) for method in by_method} for metric in metrics}
        for clip, known in frames.items()
    }
    for method, own in by_method.items():
        for score in own:
            for metric, value in score.values.items():
                values[score.clip][metric][method][frames[score.clip][score.frame]] = _number(value)
    pictures = {clip: [_plain(shot) for shot in shots if shot.clip == clip] for clip in {shot.clip for shot in shots}}
    return [
        {"name": clip, "frames": list(known), "values": values[clip], "shots": pictures.get(clip, [])}
        for clip, known in frames.items()
    ]


def digits_of(values: Sequence[float]) -> int:
    """Returns the decimals of a column: two of values such as 26.14, four of values such as 0.7292."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 2 if largest >= 10 else 3 if largest >= 1 else 4


def _number(value: float) -> float | str | None:
    """Returns a value as JSON can hold it."""
    return round(value, 4) if math.isfinite(value) else "∞" if value > 0 else None


def _plain(shot: Shot) -> dict[str, Any]:
    value = None if shot.value is None or not math.isfinite(shot.value) else shot.value
    return {
        "clip": shot.clip,
        "frame": shot.frame,
        "kinds": shot.kinds,
        "metric": shot.metric,
        "value": value,
        "text": "" if value is None else f"{shot.metric} {value:.{digits_of([value])}f}",
        "size": size_of(next(image for title, image in shot.images.items() if title != "LQ")),
        "images": {title: data_uri(image) for title, image in shot.images.items()},
        "weights": {title: data_uri(image) for title, image in shot.weights.items()},
    }
