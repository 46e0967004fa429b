"""The frames of a clip as image files: which they are, in which order, and their pixels at a given size."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from vsr.data.sources.base import IMAGE_SUFFIXES
from vsr.data.sources.images import decode

_NUMBER_AT_THE_END = re.compile(r"(\d+)\.[^.]*$", re.ASCII)


def image_files(folder: Path) -> list[str]:
    """Returns the names of the images in a folder, in any order."""
    with os.scandir(folder) as entries:  # tells files from folders without a system call for each
        return [entry.name for entry in entries if is_image(entry.name) and entry.is_file()]


def is_image(name: str) -> bool:
    """Returns whether a file name is that of an image that is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def list_frames(folder: Path) -> np.ndarray:
    """Returns the file names of a clip's frames, (n,) bytes, ordered by the number at their end.

    Any number of digits, any first number and any prefix will do: 000000.jpg, 0000001.png, 0A8CF-000001.jpg.
    Millions of Python strings would fill the memory of every worker.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no frames, a frame without a number, one number twice, or not every number in between.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder '{folder}' with the frames of clip '{folder.name}'")
    names = image_files(folder)
    if not names:
        raise ValueError(f"'{folder}' holds no frames; remove the folder and prepare the clip again")
    matches = [_NUMBER_AT_THE_END.search(name) for name in names]
    if None in matches:
        raise ValueError(f"frame '{folder / names[matches.index(None)]}' has no number at the end of its name")
    numbered = sorted((int(match[1]), name) for match, name in zip(matches, names, strict=True) if match)
    numbers = [number for number, _ in numbered]
    for before, after in pairwise(numbers):
        if after == before:
            raise ValueError(f"'{folder}' holds frame {after} twice; keep one of the files")
        if after > before + 1:
            found = f"lacks frame {before + 1} (it holds {numbers[0]} to {numbers[-1]})"
            raise ValueError(f"'{folder}' {found}; remove the folder and prepare the clip again")
    return np.array([os.fsencode(name) for _, name in numbered])


def frame_path(folder: Path, name: bytes) -> Path:
    """Returns the file of a frame that :func:`list_frames` has named."""
    return folder / os.fsdecode(name)


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
