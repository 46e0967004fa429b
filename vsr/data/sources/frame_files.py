"""The frames of a clip as image files: which they are, in which order, and their pixels at a given size."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from vsr.data.sources.base import IMAGE_SUFFIXES
from vsr.data.sources.images import decode

_NUMBER_AT_THE_END = re.compile(r"(\d+)(\.[^.]*)?$", re.ASCII)


class ClipFrames(NamedTuple):
    """The frames of a clip on disk."""

    folder: Path
    names: np.ndarray  # (n,) bytes, in order: millions of Python strings would fill the memory of every worker
    left_out: list[Path]  # files that are no images

    def stems(self, start: int = 0, end: int | None = None) -> list[str]:
        """Returns the names of frames without their suffixes."""
        return [os.path.splitext(os.fsdecode(name))[0] for name in self.names[start:end]]

    def files(self, positions: Sequence[int] | None = None) -> list[Path]:
        """Returns the files of some frames, or of all."""
        names = self.names if positions is None else self.names[positions]
        return [self.folder / os.fsdecode(name) for name in names]


def image_files(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the names of the images in a folder, and those of its other files, in any order."""
    with os.scandir(folder) as entries:  # tells files from folders without a system call for each
        return split(folder, (entry.name for entry in entries if entry.is_file()))


def split(folder: str | Path, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Returns the names of files that are images, by their suffix or else their first bytes, and the other names.

    Hidden files are neither.
    """
    images, others = [], []
    for name in names:
        if not name.startswith("."):
            is_image = name.lower().endswith(IMAGE_SUFFIXES) or _has_reader(os.path.join(folder, name))
            (images if is_image else others).append(name)
    return images, others


def _has_reader(path: str) -> bool:
    """Returns whether OpenCV knows an image's format. Names that are no UTF-8 are not given to it."""
    return not re.search(r"[\ud800-\udfff]", path) and cv2.haveImageReader(path)


def list_frames(folder: Path) -> ClipFrames:
    """Returns a clip's frames, ordered by the number at the end of their names.

    Any number of digits, any first number and any prefix will do: 000000.jpg, 0000001.png, 0A8CF-000001.jpg.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no frames, a frame without a number, or one number twice.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder '{folder}' with the frames of clip '{folder.name}'")
    names, left_out = image_files(folder)
    if not names:
        raise ValueError(f"'{folder}' holds no frames; remove the folder and prepare the clip again")
    matches = [_NUMBER_AT_THE_END.search(name) for name in names]
    if None in matches:
        raise ValueError(f"frame '{folder / names[matches.index(None)]}' has no number at the end of its name")
    numbered = sorted((int(match[1]), name) for match, name in zip(matches, names, strict=True) if match)
    for (before, _), (after, _) in pairwise(numbered):
        if after == before:
            raise ValueError(f"'{folder}' holds frame {after} twice; keep one of the files")
    return ClipFrames(
        folder, np.array([os.fsencode(name) for _, name in numbered]), [folder / name for name in left_out]
    )


def read_frames(
    files: Iterable[Path], size: tuple[int, int], over: Callable[..., Iterable[np.ndarray]] = map
) -> Iterator[np.ndarray]:
    """Yields frames of one clip, (h, w, 3) uint8 RGB, averaged down (or interpolated up) to ``size`` (h, w).

    ``over`` is ``map``, or that of a pool of threads.

    Raises:
        FileNotFoundError: a frame is missing.
        ValueError: a frame cannot be decoded, or has another size than the first.
    """
    files = list(files)
    first = None
    for file, (shape, pixels) in zip(files, over(partial(_read, size=size), files), strict=True):
        first = first or shape
        if shape != first:
            sizes = f"is {shape[0]} x {shape[1]}, but '{files[0].name}' of the same clip is {first[0]} x {first[1]}"
            raise ValueError(f"frame '{file}' {sizes}: remove the folder and prepare the clip again")
        yield pixels


def _read(file: Path, size: tuple[int, int]) -> tuple[tuple[int, ...], np.ndarray]:
    """Returns a frame's own shape, and its pixels at ``size``, few enough for a pool to hold many."""
    pixels = decode(file.read_bytes(), f"frame '{file}'")
    return pixels.shape, cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
