"""Clips at the size at which they are used, each decoded once into one memory-mapped file."""

import fcntl
import hashlib
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import BinaryIO, NamedTuple

import numpy as np
from tqdm import tqdm

from vsr.data.sources.frame_files import frame_path, read_frames
from vsr.utils.files import free_bytes, remove_unfinished, write_atomically


class ClipFrames(NamedTuple):
    """The frames of a clip on disk."""

    folder: Path
    names: np.ndarray  # (n,) bytes, in order; see list_frames

    def files(self, positions: Sequence[int] | None = None) -> list[Path]:
        """Returns the files of some frames, or of all."""
        return [frame_path(self.folder, name) for name in (self.names if positions is None else self.names[positions])]


class FrameCache:
    """Reads frames from one file per clip and size: FOLDER/CLIP.64x64.DIGEST.npy, (n, h, w, 3) uint8 RGB.

    The digest is of the names, sizes and times of the clip's files: when these change, so does the name. The first read
    writes what is missing, under a lock: of all the processes that read, one does the work and the others wait. A
    stopped run has lost at most one clip.

    Args:
        folder: is made when needed.
        size: (h, w).
        clips: all clips that may be asked for.
    """

    def __init__(self, folder: Path, size: tuple[int, int], clips: Mapping[str, ClipFrames]) -> None:
        self.folder, self.size, self.clips = folder, size, clips
        self._digests: dict[str, str] = {}  # known to this process

    def read(self, clip: str, positions: Sequence[int]) -> np.ndarray:
        """Returns (t, h, w, 3) uint8 RGB; positions count from the clip's first frame.

        Raises:
            ValueError: a frame cannot be decoded, a clip has frames of several sizes, or there is not enough space.
            OSError: the folder cannot be written to.
        """
        frames = self._open(clip)
        if frames is None:
            self._write_missing()
            frames = self._open(clip)
            assert frames is not None, f"{self._path(clip)} was written and cannot be read"
        return frames[positions]

    def _open(self, clip: str) -> np.ndarray | None:
        """Returns a clip's frames, None where there is no whole file of them."""
        shape = (len(self.clips[clip].names), *self.size, 3)
        try:
            frames = _map(self._path(clip))
        except (FileNotFoundError, EOFError, ValueError):  # missing, empty, or shorter than its header says
            return None
        return frames if frames.shape == shape and frames.dtype == np.uint8 else None

    def _path(self, clip: str) -> Path:
        if clip not in self._digests:
            self._digests[clip] = _digest(self.clips[clip])
        return self.folder / f"{self._stem(clip)}{self._digests[clip]}.npy"

    def _stem(self, clip: str) -> str:
        h, w = self.size
        return f"{clip}.{w}x{h}."

    def _write_missing(self) -> None:
        tqdm.set_lock(RLock())  # a worker's is its parent's too, who would wait forever if it were killed holding it
        with _locked(self.folder):
            remove_unfinished(self.folder)
            self._digests.clear()  # the files may have changed since
            missing = [clip for clip in self.clips if self._open(clip) is None]
            total = sum(len(self.clips[clip].names) for clip in missing)
            self._check_space(total)
            with (
                ThreadPoolExecutor(os.cpu_count() or 1) as pool,
                tqdm(total=total, unit="frame", desc=f"Frame cache {self.folder}", disable=not missing) as bar,
            ):
                for clip in missing:
                    frames = read_frames(self.clips[clip].files(), self.size, pool.map)
                    self._write(clip, frames, bar)

    def _check_space(self, num_frames: int) -> None:
        needed, free = num_frames * 3 * self.size[0] * self.size[1], free_bytes(self.folder)
        if needed > 0.98 * free:
            raise ValueError(
                f"frame_cache '{self.folder}' would take {needed / 1e9:.1f} GB more and {free / 1e9:.1f} GB are free; "
                "name a folder on another disk, or set it to ~"
            )

    def _write(self, clip: str, frames: Iterator[np.ndarray], bar: tqdm) -> None:
        path, shape = self._path(clip), (len(self.clips[clip].names), *self.size, 3)

        def write(stream: BinaryIO) -> None:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            for frame in frames:
                stream.write(frame.tobytes())
                bar.update()

        write_atomically(path, write)
        stem = Path(self._stem(clip)).name
        for other in path.parent.iterdir():
            if other.name.startswith(stem) and other != path:
                other.unlink()  # of frames that are no more


def _digest(clip: ClipFrames) -> str:
    """Returns what changes whenever a file of the clip does."""
    content = hashlib.sha256()
    for file in clip.files():
        status = file.stat()
        content.update(f"{file.name}/{status.st_size}/{status.st_mtime_ns}/".encode(errors="surrogateescape"))
    return content.hexdigest()[:16]


@lru_cache(maxsize=256)  # each holds a file handle, and a process may have 1024
def _map(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Lets one process at a time pass; the lock of a process that dies is gone with it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise ValueError(
            f"frame_cache '{folder}' cannot be written: {error.strerror}; name another folder, or set it to ~"
        ) from None
    with lock as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
