"""Clips at the size at which they are used, each decoded once into one memory-mapped file."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from vsr.data.sources.frame_files import ClipFrames, read_frames
from vsr.utils.errors import UserError
from vsr.utils.files import check_space, remove_unfinished, write_atomically
from vsr.utils.locks import sole_use

REMEDY = "name another folder, or set frame_cache: ~"


class FrameCache:
    """Reads frames from one file per clip and size: FOLDER/CLIP.64x64.DIGEST.npy, (n, h, w, 3) uint8 RGB.

    The digest covers the names, sizes and times of the clip's files, so a changed clip gets a new file. The first read
    writes the missing files of all ``clips`` under a lock: one process works, the others wait. A stopped run loses at
    most one clip. ``size`` is (h, w).
    """

    def __init__(self, folder: Path, size: tuple[int, int], clips: Mapping[str, ClipFrames]) -> None:
        self.folder, self.size, self.clips = folder, size, clips
        self._digests: dict[str, str] = {}  # cached by this process

    def read(self, clip: str, positions: Sequence[int]) -> np.ndarray:
        """Returns (t, h, w, 3) uint8 RGB; positions count from the clip's first frame.

        Raises:
            ValueError: a frame cannot be decoded, a clip has frames of several sizes, or there is not enough space.
            OSError: the folder cannot be written to.
        """
        if (frames := self._open(clip)) is None:
            self._write_missing()
            frames = self._open(clip)
            assert frames is not None, f"{self._path(clip)} was written and cannot be read"
        return frames[positions]

    def _open(self, clip: str) -> np.ndarray | None:
        """Returns a clip's frames, None if there is no complete file."""
        shape = (len(self.clips[clip].names), *self.size, 3)
        try:
            frames = _map(self._path(clip))
        except (FileNotFoundError, EOFError, ValueError):  # missing, empty, or shorter than its header says
            return None
        return frames if frames.shape == shape and frames.dtype == np.uint8 else None

    def _path(self, clip: str) -> Path:
        """Returns a clip's file; its digest changes with any file of the clip."""
        if clip not in self._digests:
            content = hashlib.sha256()
            for file in self.clips[clip].files():
                status = file.stat()
                content.update(f"{file.name}/{status.st_size}/{status.st_mtime_ns}/".encode(errors="surrogateescape"))
            self._digests[clip] = content.hexdigest()[:16]
        h, w = self.size
        return self.folder / f"{clip}.{w}x{h}.{self._digests[clip]}.npy"

    def _write_missing(self) -> None:
        tqdm.set_lock(RLock())  # a worker inherits its parent's lock, and if killed would never release it
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"frame_cache '{self.folder}' cannot be written: {error.strerror}; {REMEDY}") from None
        with sole_use(self.folder, wait=True):
            remove_unfinished(self.folder)
            self._digests.clear()  # the files may have changed
            missing = [clip for clip in self.clips if self._open(clip) is None]
            total = sum(len(self.clips[clip].names) for clip in missing)
            try:
                check_space(self.folder, total * 3 * self.size[0] * self.size[1], REMEDY)
            except UserError as error:  # a worker's ValueError becomes one message
                raise ValueError(f"frame_cache: {error}") from None
            bar = tqdm(total=total, unit="frame", desc=f"Frame cache {self.folder}", disable=not missing)
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool, bar:
                for clip in missing:
                    self._write(clip, read_frames(self.clips[clip].files(), self.size, pool.map), bar)

    def _write(self, clip: str, frames: Iterator[np.ndarray], bar: tqdm) -> None:
        path, shape = self._path(clip), (len(self.clips[clip].names), *self.size, 3)

        def write(stream: BinaryIO) -> None:
            np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for frame in frames:
                stream.write(frame.tobytes())
                bar.update()

        write_atomically(path, write)
        stem = path.name.removesuffix(f"{self._digests[clip]}.npy")
        for other in path.parent.iterdir():
            if other.name.startswith(stem) and other != path:
                other.unlink()  # of frames that have changed


@lru_cache(maxsize=256)  # each holds a file handle, and a process may have 1024
def _map(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")
