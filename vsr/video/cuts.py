"""Finds the cuts of a film, while it is decoded."""

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

LEVELS = 12  # the least mean change of a cut, of 255 levels
TIMES = 3  # a cut changes so many times as much as the frames around it
AROUND = 2  # frames before and after


def scene_cuts(frames: Iterable[np.ndarray]) -> Iterator[int]:
    """Yields the index of the first frame of each shot but the first, two frames later.

    A frame begins a shot if it differs from the one before by 12 levels, and three times as much as its neighbours do:
    motion changes many frames, a flash the next one again. Fades and dissolves have no cut.

    Args:
        frames: small frames, such as 45 x 80, grey or RGB, uint8.

    Reference: the idea is that of PySceneDetect's AdaptiveDetector, https://www.scenedetect.com. On the films of
        scripts/measure_cuts.py the cuts are the same; docs/video.md has the numbers.
    Differs: grey levels instead of HSV; the neighbours' mean is at least one level.
    """
    changes: deque[float] = deque(maxlen=2 * AROUND + 1)
    before: np.ndarray | None = None
    count = 0
    for count, frame in enumerate(frames, 1):
        now = frame.astype(np.float32)
        changes.append(0.0 if before is None else float(np.abs(now - before).mean()))
        before = now
        middle = len(changes) - 1 - AROUND
        if middle >= 0 and _is_cut(changes, middle):
            yield count - 1 - AROUND
    for middle in range(max(len(changes) - AROUND, 0), len(changes)):  # of the last frames fewer neighbours are known
        if _is_cut(changes, middle):
            yield count - len(changes) + middle


def _is_cut(changes: deque[float], middle: int) -> bool:
    around = [change for index, change in enumerate(changes) if index != middle and abs(index - middle) <= AROUND]
    level = sum(around) / len(around) if around else 0.0
    return changes[middle] >= max(LEVELS, TIMES * max(level, 1.0))
