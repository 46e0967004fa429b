"""What the sources of frames have in common.

A frame's key is its clip and its name without suffix: "000/00000014".
"""

import os
import re
from dataclasses import dataclass
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


def natural_order(name: str) -> list[tuple[int, str]]:
    """Returns a sort key under which frame2 comes before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
