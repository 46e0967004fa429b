"""Finds the cuts of a film, while it is decoded."""

from collections.abc import Iterable, Iterator

import numpy as np

LEVELS = 12  # the least mean change of a cut, of 255 levels
TIMES = 2.5  # a cut changes so many times as much as the frames around it
AROUND = 2  # frames before and after


def scene_cuts(frames: Iterable[np.ndarray]) -> Iterator[int]:
    """Yields the index of the first frame of each shot but the first, two frames later.

    A frame begins a shot if it differs from the one before by 12 levels, and 2.5 times as much as its neighbours do:
    motion changes many frames. A frame or two that interrupt a shot, such as a flash, are no cut, nor are fades.

    Args:
        frames: small frames, such as 45 x 80, grey or RGB, uint8.

    Reference: the idea is that of PySceneDetect's AdaptiveDetector, https://www.scenedetect.com. benchmarks/cuts.py
        compares both.
    Differs: grey levels instead of HSV; the neighbours' mean is at least one level.
    """
    recent: list[np.ndarray] = []  # the last frames, at most 2 * AROUND + 2
    count = 0
    for count, frame in enumerate(frames, 1):
        recent = [*recent[-2 * AROUND - 1 :], frame.astype(np.float32)]
        if count > AROUND + 1 and _is_cut(recent, len(recent) - 1 - AROUND):
            yield count - 1 - AROUND
    for index in range(max(len(recent) - AROUND, 1), len(recent)):  # of the last frames fewer neighbours are known
        if _is_cut(recent, index):
            yield count - len(recent) + index


def _is_cut(frames: list[np.ndarray], index: int) -> bool:
    """Returns whether the frame begins a shot."""
    own = _change(frames[index - 1], frames[index])
    if own < LEVELS:
        return False
    first, last = max(index - AROUND, 1), min(index + AROUND, len(frames) - 1)
    around = [_change(frames[i - 1], frames[i]) for i in range(first, last + 1) if i != index]
    if own < TIMES * max(sum(around) / max(len(around), 1), 1):
        return False
    before, after = range(max(first - 2, 0), index), range(index, last + 1)
    return all(_change(frames[i], frames[j]) >= own / 2 for i in before for j in after)  # else the shot goes on


def _change(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())
