"""Chooses the frames of a test set whose pictures a page shows, while they are restored.

Which frame is the best, the worst or the median is known when its clip ends. Until then the best and the worst so far
are kept, and CANDIDATES frames spread evenly over the clip, among them the one that is nearest the median.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from vsr.contracts import Clip
from vsr.evaluation.page.images import Images, encoded
from vsr.evaluation.scores import FrameScore
from vsr.utils.log import logger

T = TypeVar("T")
Draw = Callable[[], Mapping[str, np.ndarray]]  # returns the pictures of a frame, (h, w, 3) uint8 BGR, by title
CANDIDATES = 16  # frames of a clip that are kept until it ends; a clip of no more has its exact median
PER_CLIP = 4  # frames of a clip that are shown
MOST_CLIPS = 32  # of a test set that have pictures
MOST_SHOTS = 32  # frames of a page that have pictures
KINDS = "chosen", "middle", "median", "worst", "best", "first", "last"  # of shots, most important first


class Shot(NamedTuple):
    """The pictures of a frame; ``kinds`` says why it was chosen, by its ``value`` of the ``metric``."""

    clip: str
    frame: str
    kinds: tuple[str, ...]
    metric: str
    value: float | None
    images: Images
    weights: Images  # of a memory


class _Frame(NamedTuple):
    """A frame that may be shown."""

    name: str
    value: float | None
    draw: Draw
    draw_weights: Draw


def fixed_frames(clips: Sequence[Clip], report_frames: Sequence[int] | None) -> dict[tuple[str, str], str]:
    """Returns the kind of the frames that are shown in any case, by clip and frame.

    These are ``val.report_frames``, or the middle frame of each clip.
    """
    if report_frames is None:
        middles = [(clip, clip.targets[len(clip.targets) // 2]) for clip in clips]
        return {(clip.name, clip.frames[index]): "middle" for clip, index in middles}
    shown = [(clip, index) for clip in clips for index in report_frames if index in clip.targets]
    if not shown:
        logger.warning("val.report_frames: no clip has frames %s", ", ".join(map(str, report_frames)))
    return {(clip.name, clip.frames[index]): "chosen" for clip, index in shown}


class Spread(Generic[T]):
    """Keeps at most ``most`` items of a sequence of unknown length, evenly spaced."""

    def __init__(self, most: int) -> None:
        self.items: list[T] = []
        self._most, self._step, self._count = most, 1, 0

    def add(self, item: T) -> None:
        """Takes the next item of the sequence."""
        if self._count % self._step == 0:
            self.items.append(item)
            if len(self.items) > self._most:
                self.items = self.items[::2]
                self._step *= 2
        self._count += 1


class Album:
    """Collects the frames of a test set that are shown; frames of a clip follow each other.

    Args:
        metric: the metric that says which frame is the best.
        lower_is_better: whether its smallest value is the best.
        wanted: (clip, frame) of frames that are shown in any case, with the kind that the page names, "middle".
    """

    def __init__(self, metric: str, lower_is_better: bool, wanted: Mapping[tuple[str, str], str]) -> None:
        self._metric, self._sign, self._wanted = metric, -1 if lower_is_better else 1, wanted
        self._clip: str | None = None
        self._shots: Spread[list[Shot]] = Spread(MOST_CLIPS)

    def add(self, clip: str, frame: str, scores: list[FrameScore], draw: Draw, draw_weights: Draw) -> None:
        """Takes the next frame; if it is shown, its pictures and those of the memory are drawn when its clip ends."""
        if clip != self._clip:
            self._end_clip()
            self._clip = clip
            self._values: list[float] = []
            self._candidates: Spread[_Frame] = Spread(CANDIDATES)
            self._extremes: dict[str, _Frame] = {}
            self._fixed: list[tuple[str, _Frame]] = []
        value = next((s.values.get(self._metric) for s in scores if s.method == "network"), None)
        own = _Frame(frame, value, draw, draw_weights)
        self._candidates.add(own)
        if (clip, frame) in self._wanted:
            self._fixed.append((self._wanted[clip, frame], own))
        if value is not None:
            self._values.append(value)
            for kind, sign in (("best", self._sign), ("worst", -self._sign)):
                known = self._extremes.get(kind)
                if known is None or known.value is None or sign * value > sign * known.value:
                    self._extremes[kind] = own

    def shots(self) -> list[Shot]:
        """Returns the pictures of the frames that were chosen, by clip, the most important of a clip first."""
        self._end_clip()
        return [shot for clip in self._shots.items for shot in clip]

    def _end_clip(self) -> None:
        if self._clip is None:
            return
        chosen: dict[str, tuple[list[str], _Frame]] = {}
        for kind, frame in self._chosen():
            chosen.setdefault(frame.name, ([], frame))[0].append(kind)
        shots = []
        for kinds, frame in list(chosen.values())[:PER_CLIP]:
            images, weights = encoded(frame.draw()), encoded(frame.draw_weights())
            shots.append(Shot(self._clip, frame.name, tuple(kinds), self._metric, frame.value, images, weights))
        self._shots.add(shots)
        self._clip = None

    def _chosen(self) -> list[tuple[str, _Frame]]:
        """Returns the frames of the clip that are shown, most important first, each with its kind."""
        frames = self._candidates.items
        middle = [] if self._wanted else [("middle", frames[len(frames) // 2])]
        if not self._values:
            return [*self._fixed, *middle, ("first", frames[0]), ("last", frames[-1])]
        median = sorted(self._values)[(len(self._values) - 1) // 2]
        measured = [frame for frame in frames if frame.value is not None] or [self._extremes["worst"]]
        nearest = min(measured, key=lambda frame: 0 if frame.value == median else abs((frame.value or 0) - median))
        return [*self._fixed, *middle, ("median", nearest), *((k, self._extremes[k]) for k in ("worst", "best"))]


def merged(shots: list[Shot], lower_is_better: bool) -> list[Shot]:
    """Returns the shots of a test set with one frame for each kind and clip, most important first.

    Ranks that share a clip each have chosen of their own part: the best is that of all, the median that of the medians.
    """
    clips: dict[str, list[Shot]] = {}
    for shot in shots:
        clips.setdefault(shot.clip, []).append(shot)
    return [shot for own in clips.values() for shot in _one_of_each(own, -1 if lower_is_better else 1)]


def limited(shots: list[Shot], most: int, per_clip: int = PER_CLIP) -> list[Shot]:
    """Returns at most ``most`` shots, ``per_clip`` of a clip: of many clips fewer each, of very many an even spread."""
    clips: dict[str, list[Shot]] = {}
    for shot in shots:
        clips.setdefault(shot.clip, []).append(shot)
    spread: Spread[list[Shot]] = Spread(max(most, 1))
    for own in clips.values():
        spread.add(own)
    per_clip = min(max(most // max(len(spread.items), 1), 1), per_clip)
    return [shot for own in spread.items for shot in own[:per_clip]]


def _one_of_each(shots: list[Shot], sign: int) -> list[Shot]:
    """Returns a clip's shots; ``sign`` is -1 if a lower value is better."""
    by_value = sorted(shots, key=lambda shot: sign * (shot.value or 0))
    kinds: dict[str, list[str]] = {}
    for kind in KINDS:
        own = [
            shot.frame for shot in (by_value if kind in ("worst", "median", "best") else shots) if kind in shot.kinds
        ]
        place = {"worst": 0, "first": 0, "best": -1, "last": -1}.get(kind, len(own) // 2)
        for frame in own if kind == "chosen" else own[place:][:1]:
            kinds.setdefault(frame, []).append(kind)
    by_frame = {shot.frame: shot for shot in shots}
    return [by_frame[frame]._replace(kinds=tuple(own)) for frame, own in kinds.items()]
