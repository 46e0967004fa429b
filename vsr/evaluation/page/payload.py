"""What a page shows of results, as plain data: its sets, methods, clips, curves and pictures."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from vsr.evaluation.page.album import MOST_SHOTS, Shot, limited
from vsr.evaluation.page.images import QUALITIES, Images, coarser, data_uri, size_of
from vsr.evaluation.page.results import Result
from vsr.evaluation.scores import FrameScore, Values, average

MOST_BYTES = 20_000_000  # of the pictures of a page
OF_RESULTS = "network", "difference"  # pictures that differ between results
FIXED = "chosen", "middle", "first", "last"  # kinds of shots that do not depend on the result


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


def set_data(name: str, results: Sequence[Result], shots: dict[str, list[Shot]], baselines_first: bool) -> SetData:
    """Returns the data of a test set.

    Args:
        name: of the test set.
        results: the first one's baselines are shown.
        shots: by label, with the pictures that fit into the page.
        baselines_first: whether differences are to the first baseline; else they are to the first result.
    """
    entry = results[-1].report["datasets"][name]
    scores = {result.label: [s for s in result.scores[name] if s.method == "network"] for result in results}
    baselines: dict[str, list[FrameScore]] = {}
    for score in results[0].scores[name]:
        if score.method != "network":
            baselines.setdefault(score.method, []).append(score)
    by_method = {**baselines, **scores} if baselines_first else {**scores, **baselines}
    by_method = {method: own for method, own in by_method.items() if own}
    found = dict.fromkeys(metric for own in by_method.values() for score in own for metric in score.values)
    metrics = sorted(found, key=list(entry.get("protocols", found)).index)  # in the order of the options
    means = {method: average(own)[own[0].method] for method, own in by_method.items()}
    labels = [result.label for result in results if result.label in by_method] or [result.label for result in results]
    lower = set(entry.get("lower_is_better", []))
    clips = _clips(by_method, metrics, shots)
    data = {"name": name, "metrics": metrics, "methods": list(by_method), "results": labels, "clips": clips}
    texts = {result.label: protocol_text(result.report["datasets"][name]) for result in results}
    return SetData(name, metrics, lower, list(by_method), labels, means, texts, data)


def protocol_text(entry: dict[str, Any]) -> str:
    """Returns how a test set was measured, "psnr reds4-rgb, ssim reds4-rgb"; empty where nothing was."""
    return ", ".join(f"{metric} {protocol['name']}" for metric, protocol in entry.get("protocols", {}).items())


def _clips(
    by_method: dict[str, list[FrameScore]], metrics: list[str], shots: dict[str, list[Shot]]
) -> list[dict[str, Any]]:
    """Returns the clips with the values of every frame, and their pictures."""
    frames: dict[str, dict[str, int]] = {}  # by clip, the index of a frame
    for own in by_method.values():
        for score in own:
            known = frames.setdefault(score.clip, {})
            known.setdefault(score.frame, len(known))
    for own in shots.values():
        for shot in own:
            known = frames.setdefault(shot.clip, {})
            known.setdefault(shot.frame, len(known))
    values: dict[str, dict[str, dict[str, list[float | str | None]]]] = {
        clip: {metric: {method: [None] * len(known) for method in by_method} for metric in metrics}
        for clip, known in frames.items()
    }
    for method, own in by_method.items():
        for score in own:
            for metric, value in score.values.items():
                values[score.clip][metric][method][frames[score.clip][score.frame]] = _number(value)
    pictures = _joined(shots)
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


def _joined(shots: dict[str, list[Shot]]) -> dict[str, list[dict[str, Any]]]:
    """Returns the shots of each clip as plain data; of several results those frames that most of them have."""
    found: dict[str, dict[str, dict[str, Shot]]] = {}  # by clip, frame and label
    for label, own in shots.items():
        for shot in own:
            found.setdefault(shot.clip, {}).setdefault(shot.frame, {})[label] = shot
    with_pictures = [label for label, own in shots.items() if own]
    least = min(2, len(with_pictures))
    return {
        clip: [_plain(frame, own, len(with_pictures) > 1) for frame, own in frames.items() if len(own) >= least]
        for clip, frames in found.items()
    }


def _plain(frame: str, shots: dict[str, Shot], is_several: bool) -> dict[str, Any]:
    first = next(iter(shots.values()))
    images, weights = _joined_images(shots, is_several)
    kinds = [k if k in FIXED or not is_several else f"{k} {label}" for label, s in shots.items() for k in s.kinds]
    size = size_of(next(image for title, image in images.items() if title != "LQ"))
    value = first.value if first.value is None or math.isfinite(first.value) else None
    return {
        "clip": first.clip,
        "frame": frame,
        "kinds": list(dict.fromkeys(kinds)),
        "metric": first.metric,
        "value": value,
        "text": "" if value is None or is_several else f"{first.metric} {value:.{digits_of([value])}f}",
        "size": size,
        "images": {title: data_uri(image) for title, image in images.items()},
        "weights": {title: data_uri(image) for title, image in weights.items()},
    }


def _joined_images(shots: dict[str, Shot], is_several: bool) -> tuple[Images, Images]:
    """Returns the pictures and the memory's weights of a frame; those of several results have their label as title."""
    first = next(iter(shots.values()))
    if not is_several:
        return first.images, first.weights
    images = {title: image for title, image in first.images.items() if title not in (*OF_RESULTS, "GT")}
    images |= {label: shot.images["network"] for label, shot in shots.items() if "network" in shot.images}
    images |= {"GT": first.images["GT"]} if "GT" in first.images else {}
    images |= {f"difference {label}": s.images["difference"] for label, s in shots.items() if "difference" in s.images}
    weights = {f"{label}: {title}": image for label, shot in shots.items() for title, image in shot.weights.items()}
    return images, weights


def fitting(results: Sequence[Result], names: Sequence[str]) -> dict[str, dict[str, list[Shot]]]:
    """Returns the shots by test set and label, fewer or coarser ones if a page could not hold them all."""
    most = MOST_SHOTS // max(len(names), 1)
    shots = {name: {r.label: limited(r.shots.get(name, []), most) for r in results} for name in names}
    for quality in (None, *QUALITIES):
        if quality is not None:
            shots = {name: {k: [_coarser(s, quality) for s in own] for k, own in shots[name].items()} for name in names}
        if _bytes_of(shots) <= MOST_BYTES:
            return shots
    while _bytes_of(shots) > MOST_BYTES:
        shots = {
            name: {label: own[: len(own) // 2] for label, own in by_label.items()} for name, by_label in shots.items()
        }
    return shots


def _coarser(shot: Shot, quality: int) -> Shot:
    return shot._replace(images=coarser(shot.images, quality), weights=coarser(shot.weights, quality))


def _bytes_of(shots: dict[str, dict[str, list[Shot]]]) -> float:
    """Returns the bytes that pictures take in a page."""
    own = [shot for by_label in shots.values() for shots_of_one in by_label.values() for shot in shots_of_one]
    return sum(len(image) for shot in own for image in (*shot.images.values(), *shot.weights.values())) * 4 / 3
