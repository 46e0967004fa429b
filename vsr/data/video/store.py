"""Videos as a frame store."""

import logging
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np

from vsr.data.sources.base import Crop, natural_order
from vsr.data.sources.images import cut
from vsr.data.video.reader import damage, decode, frames_of, is_video_file

_log = logging.getLogger(__name__)


class VideoStore:
    """A video, or a folder of videos: ROOT/CLIP.mp4 is clip CLIP, its frames are named 00000000, 00000001 and so on.

    Frames are decoded in order; an earlier frame is decoded from the video's start, since seeking is inexact in many
    files.

    Raises:
        ValueError: two videos have the same name.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        files = sorted(videos_in(root), key=lambda file: natural_order(file.stem))
        self.files = {file.stem: file for file in files}
        if len(self.files) < len(files):
            raise ValueError(f"'{root}' holds videos that differ in their suffix only; rename one")
        self._readers: dict[int, _Reader] = {}  # by process: a position in a file is shared after a fork

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return VideoStore, (self.root,)

    def clips(self) -> list[str]:
        """Returns the videos' names without suffix, sorted."""
        return list(self.files)

    def frames(self, clip: str) -> list[str]:
        """Returns the names of a video's frames."""
        file = self.files.get(clip)
        return [f"{number:08d}" for number in range(_count_frames(file, file.stat().st_mtime_ns))] if file else []

    def has(self, key: str) -> bool:
        """Returns whether there is a frame of this key."""
        clip, _, frame = key.rpartition("/")
        return frame in self.frames(clip)

    def size(self, key: str) -> tuple[int, int]:
        """Returns a frame's height and width."""
        return self.read(key).shape[:2]

    def read(self, key: str, crop: Crop | None = None) -> np.ndarray:
        """Returns a frame or a rectangle of it: (h, w, 3) uint8 RGB."""
        clip, _, frame = key.rpartition("/")
        if clip not in self.files or not frame.isdecimal():
            raise FileNotFoundError(f"'{self.root}' has no frame '{key}'")
        pixels = self._readers.setdefault(os.getpid(), _Reader()).read(self.files[clip], int(frame))
        return cut(pixels, crop, f"{self.files[clip]}, frame {frame}")


class _Reader:
    """Decodes one video at a time, from its start; for several threads."""

    def __init__(self) -> None:
        self.file: Path | None = None
        self.frames: Iterator[tuple[np.ndarray, float]] = iter(())
        self.position = 0  # of the next frame
        self.lock = Lock()

    def read(self, file: Path, number: int) -> np.ndarray:
        """Returns a frame, (h, w, 3) uint8 RGB."""
        with self.lock:
            if file != self.file or number < self.position:
                self.file, self.frames, self.position = file, decode(file), 0
            for frame, _ in self.frames:
                self.position += 1
                if self.position > number:
                    return frame
        raise FileNotFoundError(f"video '{file}' has no frame {number}: it ends after {self.position}")


def videos_in(root: Path) -> list[Path]:
    """Returns the videos of a folder, or a video itself."""
    return [file for file in (root.iterdir() if root.is_dir() else [root]) if is_video_file(file)]


def holds_videos(root: Path) -> bool:
    """Returns whether a root is a video, or a folder with videos and without folders that hold something."""
    if not root.is_dir():
        return is_video_file(root)
    videos = videos_in(root)
    folders = [entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "." and any(entry.iterdir())]
    if videos and folders:
        text = "'%s' holds videos and folders: the %d videos, such as %s, are ignored"
        _log.warning(text, root, len(videos), min(file.name for file in videos))
    others = [file.name for file in root.iterdir() if file.is_file() and file.name[0] != "." and file not in videos]
    if videos and not folders and others:
        _log.warning("'%s' holds %d files that are no videos, such as %s: not read", root, len(others), min(others))
    return bool(videos) and not folders


@cache
def _count_frames(file: Path, modified: int) -> int:
    """Returns the number of frames by decoding them; headers are often wrong."""
    _log.info("counting the frames of '%s'", file)
    decoded = sum(1 for _ in frames_of(file))
    if problem := damage(file, decoded):
        _log.warning("%s; the frames that can be decoded are used", problem)
    return decoded
