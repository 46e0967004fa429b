"""Video files as a frame store: what is to be restored need not be taken apart first."""

import logging
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from vsr.data.lists.clip_lists import VIDEO_SUFFIXES
from vsr.data.sources.images import cut
from vsr.data.sources.stores import natural_order
from vsr.data.sources.video_files import decode_video, ends_early, probe
from vsr.data.stream.augment import Crop

_log = logging.getLogger(__name__)


def holds_videos(root: Path) -> bool:
    """Returns whether a root is a video file, or a folder with videos and without folders of anything else."""
    if not root.is_dir():
        return _is_video(root)
    videos = [entry.name for entry in root.iterdir() if _is_video(entry)]
    folders = [entry.name for entry in root.iterdir() if not entry.name.startswith(".") and _is_filled(entry)]
    if videos and folders:
        _log.warning(
            "'%s' holds videos and folders: the folders are taken, such as %s; %d videos are not, such as %s",
            root,
            min(folders),
            len(videos),
            min(videos),
        )
    return bool(videos) and not folders


class VideoStore:
    """A video file, or a folder of them: ROOT/CLIP.mp4 is clip CLIP, its frames are named 00000000, 00000001, ….

    Frames are meant to be read in order. To go back is to decode from the start: seeking lands elsewhere in many files.

    Raises:
        ValueError: two videos of one name.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        found = filter(_is_video, root.iterdir() if root.is_dir() else [root])
        files = sorted(found, key=lambda file: natural_order(file.stem))
        self._files = {file.stem: file for file in files}
        if len(self._files) < len(files):
            raise ValueError(f"'{root}' holds videos that differ in their suffix only; rename one")
        self._readers: dict[int, _Reader] = {}  # by process: a decoder's threads do not survive a fork

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return VideoStore, (self.root,)

    def clips(self) -> list[str]:
        """Returns the videos' names without suffix, sorted."""
        return list(self._files)

    def frames(self, clip: str) -> list[str]:
        """Returns the names of a video's frames."""
        file = self._files.get(clip)
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
        if clip not in self._files or not frame.isdecimal():
            raise FileNotFoundError(f"'{self.root}' has no frame '{key}'")
        pixels = self._readers.setdefault(os.getpid(), _Reader()).read(self._files[clip], int(frame))
        return cv2.cvtColor(cut(pixels, crop, f"{self._files[clip]}, frame {frame}"), cv2.COLOR_BGR2RGB)


class _Reader:
    """Decodes videos, one at a time, each from its start."""

    def __init__(self) -> None:
        self.file: Path | None = None
        self.frames: Iterator[tuple[np.ndarray, float]] = iter(())
        self.position = 0  # of the frame that comes next

    def read(self, file: Path, number: int) -> np.ndarray:
        """Returns a frame, (h, w, 3) uint8 BGR."""
        if file != self.file or number < self.position:
            self.file, self.frames, self.position = file, decode_video(file), 0
        for frame, _ in self.frames:
            self.position += 1
            if self.position > number:
                return frame
        raise FileNotFoundError(f"video '{file}' has no frame {number}: it ends after {self.position}")


@cache
def _count_frames(file: Path, modified: int) -> int:
    """Returns how many frames a video has by decoding it, since headers are often wrong."""
    _log.info("counting the frames of '%s'", file)
    decoded, claimed = sum(1 for _ in decode_video(file)), probe(file).num_frames
    if ends_early(decoded, claimed):
        _log.warning(
            "video '%s' ends after %d frames, its header says %d: it is damaged, or its header is wrong; the frames "
            "there are will be used. Copy it again if it should be longer",
            file,
            decoded,
            claimed,
        )
    return decoded


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(True for _ in folder.iterdir())


def _is_video(file: Path) -> bool:
    return not file.name.startswith(".") and file.suffix.lower() in VIDEO_SUFFIXES and file.is_file()
