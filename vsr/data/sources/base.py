"""What the sources of frames have in common.

A frame's key is its clip and its name without suffix: "000/00000014".
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
DEGRADATION_FILE = "degradation.txt"  # in a root of LQ frames: how generate_lq.py made them, "BI x4"


@dataclass(frozen=True)
class IOBackend:
    """How a data root is stored.

    Args:
        type: ``disk``, a folder of clips; ``lmdb``, a database made by ``scripts/pack_frames.py``, BasicSR or mmagic.
    """

    type: Literal["disk", "lmdb"] = "disk"


DISK = IOBackend()


class Crop(NamedTuple):
    """A rectangle of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int
    frame_size: tuple[int, int] | None = None  # (h, w) of the frames it was drawn for; others are refused

    def fits(self, h: int, w: int) -> bool:
        """Returns whether it lies inside a frame of this size, and was drawn for one."""
        is_inside = 0 <= self.top <= h - self.height and 0 <= self.left <= w - self.width
        return is_inside and self.frame_size in (None, (h, w))


class FrameStore(Protocol):
    """Reads frames by key. Pickles cheaply, and opens files in the process that reads."""

    root: Path

    def clips(self) -> list[str]:
        """Returns the names of all clips, sorted."""
        ...

    def frames(self, clip: str) -> list[str]:
        """Returns the names of a clip's frames in order; empty if there is no such clip."""
        ...

    def has(self, key: str) -> bool:
        """Returns whether there is a frame of this key."""
        ...

    def size(self, key: str) -> tuple[int, int]:
        """Returns a frame's height and width, if possible without decoding it."""
        ...

    def read(self, key: str, crop: Crop | None = None) -> np.ndarray:
        """Returns a frame, or a rectangle of it: (h, w, 3) uint8 RGB.

        Raises:
            FileNotFoundError: there is no such frame.
            ValueError: it cannot be decoded, or the crop does not fit it.
        """
        ...


def root_path(option: str, dataroot: str) -> Path:
    """Returns a data root as a path, ~ expanded; raises ``ValueError`` if it is empty."""
    if not str(dataroot).strip():
        raise ValueError(f"{option} is empty; name a folder")
    return Path(os.path.expanduser(dataroot))


def missing_frames(frames: Sequence[str]) -> Iterator[str]:
    """Yields the names that a clip's numbering lacks, in order: "00000003" between 00000002 and 00000004.

    None are missing where names do not end in numbers, have several prefixes, or are as far apart as times are; nor
    where the numbers are equally spaced, as those of every tenth frame.
    """
    found = [re.fullmatch(r"(.*?)([0-9]+)", frame, re.DOTALL) for frame in frames]
    matches = [match for match in found if match is not None]
    if len(matches) < len(frames) or len({match[1] for match in matches}) != 1:
        return
    steps = [int(after[2]) - int(before[2]) for before, after in pairwise(matches)]
    unit = gcd(*steps)
    if unit < 1 or min(steps) < 1 or min(steps) >= 10 * unit > 0 or sum(steps) > 100 * unit * len(frames) + 1000:
        return
    for match, step in zip(matches, steps, strict=False):
        for number in range(int(match[2]) + unit, int(match[2]) + step, unit):
            yield f"{match[1]}{number:0{len(match[2])}d}"


def with_missing(frames: Sequence[str]) -> list[str]:
    """Returns a clip's frames and those that its numbering lacks, in order."""
    missing = list(missing_frames(frames))
    return sorted([*frames, *missing], key=natural_order) if missing else list(frames)


def natural_order(name: str) -> list[tuple[int, str]]:
    """Returns a sort key under which frame2 comes before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
