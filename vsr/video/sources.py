"""The inputs of ``vsr upscale``: videos, folders of frames, patterns."""

import glob
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vsr.data.sources.base import IMAGE_SUFFIXES, natural_order
from vsr.data.video.reader import is_video_file
from vsr.utils.errors import UserError
from vsr.utils.log import counted

_PRINTF = re.compile(r"%0?(\d*)d")
_log = logging.getLogger(__name__)


class Source(NamedTuple):
    """A film as it is given.

    Args:
        path: the video, or the folder of the frames; ``-`` is a pipe.
        frames: the files of the frames, in order; empty for a video.
    """

    path: Path
    frames: tuple[Path, ...] = ()

    @property
    def is_pipe(self) -> bool:
        """Whether it is standard input."""
        return str(self.path) == "-"


def find_sources(inputs: Sequence[str]) -> list[Source]:
    """Returns the films that the inputs name; several images are the frames of one film.

    Raises:
        UserError: an input does not exist, or holds neither videos nor frames.
    """
    paths = [path for given in inputs for path in _expanded(given)]
    if paths and all(_is_image(path) for path in paths):
        return [_film_of(paths)]
    return [source for path in paths for source in _sources_at(path)]


def _expanded(given: str) -> list[Path]:
    """Returns the files that an input names: itself, or what a glob or printf pattern matches."""
    path = Path(os.path.expanduser(given))
    if given == "-" or path.exists():
        return [path]
    if match := _PRINTF.search(path.name):
        digits = rf"\d{{{match[1]}}}" if match[1] else r"\d+"
        before, after = re.escape(path.name[: match.start()]), re.escape(path.name[match.end() :])
        pattern = re.compile(f"{before}{digits}{after}")
        listed = path.parent.iterdir() if path.parent.is_dir() else []
        found = [file for file in listed if pattern.fullmatch(file.name)]
    else:
        found = [Path(name) for name in glob.glob(str(path))]
    if not found:
        is_pattern = match or any(character in given for character in "*?[")
        text = f"'{given}' matches no file" if is_pattern else f"'{given}' does not exist"
        raise UserError(f"{text}; give a video, a folder of frames, a pattern such as frames/%08d.png, or -")
    return sorted(found, key=lambda file: natural_order(file.name))


def _sources_at(path: Path) -> list[Source]:
    """Returns the films of a path: a video, a folder of frames, or a folder of such folders or of videos."""
    if str(path) == "-":
        return [Source(path)]
    if not path.is_dir():
        if _is_image(path):
            return [_film_of([path])]
        return [Source(path)]  # opening it says what is wrong
    entries = sorted((e for e in path.iterdir() if e.name[0] != "."), key=lambda e: natural_order(e.name))
    images = [entry for entry in entries if _is_image(entry)]
    if images:
        _name_left_out(path, [entry for entry in entries if entry not in set(images)])
        return [_film_of(images)]
    videos = [entry for entry in entries if is_video_file(entry)]
    folders = [entry for entry in entries if entry.is_dir() and any(map(_is_image, entry.iterdir()))]
    _name_left_out(path, [entry for entry in entries if entry not in videos and entry not in folders])
    if not videos and not folders:
        raise UserError(f"'{path}' holds neither videos nor frames ({', '.join(IMAGE_SUFFIXES)})")
    return [Source(video) for video in videos] + [source for folder in folders for source in _sources_at(folder)]


def _film_of(frames: list[Path]) -> Source:
    """Returns the film of some frames, in the order of their names; warns of missing numbers."""
    frames = sorted(frames, key=lambda file: natural_order(file.name))
    numbers = [int(match[1]) for file in frames if (match := re.search(r"(\d+)$", file.stem))]
    if len(numbers) == len(frames) and len(set(numbers)) == len(numbers):
        missing = sorted(set(range(min(numbers), max(numbers) + 1)) - set(numbers))
        if missing:
            text = "'%s' lacks %s, such as number %d: the frames that are there are one film"
            _log.warning(text, frames[0].parent, counted(len(missing), "frame"), missing[0])
    return Source(frames[0].parent, tuple(frames))


def _name_left_out(folder: Path, others: list[Path]) -> None:
    if others:
        found = counted(len(others), "file")
        _log.warning("'%s': %s that no film consists of, such as '%s': left out", folder, found, others[0].name)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "." and path.is_file()
