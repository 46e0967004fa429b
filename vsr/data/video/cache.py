"""Videos as a frame store whose frames can be read in any order: each is decoded once into a memory-mapped file."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from glob import escape
from itertools import pairwise
from pathlib import Path
from threading import RLock
from typing import BinaryIO

import cv2
import numpy as np
from tqdm import tqdm

from vsr.data.sources.base import Crop
from vsr.data.sources.images import cut
from vsr.data.video.cuts import scene_cuts
from vsr.data.video.reader import decode, probe
from vsr.utils.files import check_space, remove_unfinished, write_atomically, write_text_atomically
from vsr.utils.locks import sole_use


class VideoCache:
    """Reads frames from one file per video: FOLDER/CLIP.DIGEST.npy, (n, h, w, 3) uint8 RGB; its cuts lie beside it.

    The digest covers the size and the time of the video, so a changed video gets a new file. The constructor writes
    what is missing, under a lock: one process works, the others wait. A stopped run loses at most one video.

    Args:
        folder: of the files.
        files: the videos by clip name.

    Raises:
        ValueError: a video has no frames, cannot be opened, or changes while it is read.
        UserError: there is not enough space.
    """

    def __init__(self, folder: Path, files: Mapping[str, Path]) -> None:
        self.root, self._paths = folder, {clip: _path(folder, clip, video) for clip, video in files.items()}
        if any(not path.is_file() for path in self._paths.values()):
            tqdm.set_lock(RLock())
            folder.mkdir(parents=True, exist_ok=True)
            with sole_use(folder, wait=True):
                remove_unfinished(folder)
                missing = {clip: video for clip, video in files.items() if not self._paths[clip].is_file()}
                _check_room(folder, missing)
                total = sum(probe(video).num_frames for video in missing.values())
                with tqdm(total=total, unit="frame", desc=f"Decoding into {folder}") as bar:
                    for clip, video in missing.items():
                        _write(self._paths[clip], clip, video, bar)

    def clips(self) -> list[str]:
        """Returns the names of all clips, in the order of the videos."""
        return list(self._paths)

    def frames(self, clip: str) -> list[str]:
        """Returns the names of a clip's frames, 00000000, 00000001 and so on."""
        return [f"{number:08d}" for number in range(len(_map(self._paths[clip])))] if clip in self._paths else []

    def shots(self, clip: str) -> list[range]:
        """Returns the frames of each shot of a clip, which were found when it was decoded."""
        starts = [0, *map(int, _cuts(self._paths[clip]).read_text().split()), len(_map(self._paths[clip]))]
        return [range(start, stop) for start, stop in pairwise(starts)]

    def has(self, key: str) -> bool:
        """Returns whether there is a frame of this key."""
        clip, _, frame = key.rpartition("/")
        return frame in self.frames(clip)

    def size(self, key: str) -> tuple[int, int]:
        """Returns a frame's height and width."""
        return _map(self._paths[key.rpartition("/")[0]]).shape[1:3]

    def read(self, key: str, crop: Crop | None = None) -> np.ndarray:
        """Returns a frame or a rectangle of it: (h, w, 3) uint8 RGB; only its pages are read from the disk."""
        clip, _, frame = key.rpartition("/")
        if not self.has(key):
            raise FileNotFoundError(f"'{self.root}' has no frame '{key}'")
        return np.array(cut(_map(self._paths[clip])[int(frame)], crop, key))


def _path(folder: Path, clip: str, video: Path) -> Path:
    status = video.stat()
    digest = hashlib.sha256(f"{status.st_size}/{status.st_mtime_ns}".encode()).hexdigest()[:16]
    return folder / f"{clip}.{digest}.npy"


def _cuts(path: Path) -> Path:
    return path.with_suffix(".cuts.txt")


def _check_room(folder: Path, videos: Mapping[str, Path]) -> None:
    headers = [probe(video) for video in videos.values()]
    needed = sum(header.num_frames * header.height * header.width * 3 for header in headers)
    check_space(folder, needed, "name another folder with frame_cache")


def _write(path: Path, clip: str, video: Path, bar: tqdm) -> None:
    small: list[np.ndarray] = []  # of each frame, in which cuts are found

    def write(stream: BinaryIO) -> None:
        shape = (0, 0, 0, 3)
        _write_header(stream, shape)
        for frame, _ in decode(video):
            shape = (shape[0] + 1, *frame.shape)
            stream.write(np.ascontiguousarray(frame).data)
            small.append(cv2.resize(frame, (80, 45), interpolation=cv2.INTER_AREA))
            bar.update()
        if shape[0] == 0:
            raise ValueError(f"video '{video}' has no frames that can be decoded")
        if _path(path.parent, clip, video) != path:
            raise ValueError(f"video '{video}' was changed while it was read; start again when it is complete")
        stream.seek(0)
        _write_header(stream, shape)
        write_text_atomically(_cuts(path), "\n".join(map(str, scene_cuts(small))))

    write_atomically(path, write)
    for other in path.parent.glob(f"{escape(clip)}.{'[0-9a-f]' * 16}.npy"):
        if other != path:
            other.unlink()  # of the video before it changed
            _cuts(other).unlink(missing_ok=True)


def _write_header(stream: BinaryIO, shape: tuple[int, ...]) -> None:
    """Writes the header of a .npy file; NumPy leaves room for the first number to grow."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    stream.write(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n")


@lru_cache(maxsize=256)  # each holds a file handle, and a process may have 1024
def _map(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")
