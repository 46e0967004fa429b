"""Where frames come from: a folder of clips, or an LMDB. A data set sees no difference.

A frame's key is its clip and its name without suffix: "000/00000014".
"""

import os
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

import lmdb
import numpy as np

from vsr.data.lists.meta_info import read_text
from vsr.data.sources.images import SIZE_BYTES, decode, image_size
from vsr.data.stream.augment import Crop

_AFTER_KEY = re.compile(r"\s+(\([\d, ]+\)\s*)?\d*\s*$")  # of a line of an LMDB's meta_info.txt: size and compression
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


class FrameStore(Protocol):
    """Reads frames by key. Pickles cheaply and opens what it needs in the process that reads."""

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
    """Returns a data root as a path, ~ at its start the home folder; raises ``ValueError`` for an empty text."""
    if not str(dataroot).strip():
        raise ValueError(f"{option} is empty; name a folder")
    return Path(os.path.expanduser(dataroot))


def open_store(root: str | Path, io_backend: IOBackend = DISK) -> FrameStore:
    """Returns the store of a data root.

    Raises:
        FileNotFoundError: the root does not exist.
        ValueError: the root holds something other than ``io_backend`` says.
    """
    root = Path(root)
    if not root.is_dir():
        unfinished = root.with_name(f"{root.name}.partial")
        hint = f", but '{unfinished}' does: run pack_frames.py again, it resumes" if unfinished.is_dir() else ""
        raise FileNotFoundError(f"folder '{root}' does not exist{hint}")
    is_lmdb = (root / "data.mdb").is_file()
    if io_backend.type == "lmdb":
        if not is_lmdb:
            raise ValueError(
                f"'{root}' is not an LMDB (it holds no data.mdb); for a folder set io_backend: {{type: disk}}"
            )
        return LmdbStore(root)
    if is_lmdb:
        raise ValueError(f"'{root}' is an LMDB, not a folder of frames; set io_backend: {{type: lmdb}}")
    return FolderStore(root)


class FolderStore:
    """Frames as image files: ROOT/CLIP/FRAME.png. A clip's name may hold slashes, as Vimeo-90K's do."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def clips(self) -> list[str]:
        """Returns the folders that hold images, at any depth, sorted."""
        found = []
        for folder, subfolders, files in os.walk(self.root, followlinks=True):
            if _leads_back(folder):
                subfolders.clear()
                continue
            subfolders.sort()
            if any(_is_image(Path(name)) for name in files):
                found.append(Path(folder).relative_to(self.root).as_posix())
        return sorted((clip for clip in found if clip != "."), key=natural_order)

    def frames(self, clip: str) -> list[str]:
        """Returns the names of a clip's images without suffix, numbers in numeric order.

        Raises:
            ValueError: two images differ in their suffix only.
        """
        folder = self.root / clip
        if not folder.is_dir():
            return []
        with os.scandir(folder) as entries:  # knows what is a file without asking for each
            images = [Path(entry.name) for entry in entries if _is_image(Path(entry.name)) and entry.is_file()]
        files = sorted(images, key=lambda file: (natural_order(file.stem), file.name))
        names: dict[str, str] = {}
        for file in files:
            other = names.setdefault(file.stem, file.name)
            if other != file.name:
                raise ValueError(f"'{folder}' holds one frame twice, as {other} and {file.name}; keep one of the files")
        return list(names)

    def has(self, key: str) -> bool:
        """Returns whether there is a file for this key."""
        return self._find(key) is not None

    def size(self, key: str) -> tuple[int, int]:
        """Returns a frame's height and width; of a PNG or a packed frame, from its first bytes."""
        path = self._path(key)
        with path.open("rb") as file:
            return image_size(file.read(SIZE_BYTES)) or self.read(key).shape[:2]

    def read(self, key: str, crop: Crop | None = None) -> np.ndarray:
        """Returns a frame or a rectangle of it: (h, w, 3) uint8 RGB."""
        path = self._path(key)
        return decode(path.read_bytes(), str(path), crop)

    def _path(self, key: str) -> Path:
        path = self._find(key)
        if path is None:
            raise FileNotFoundError(f"frame '{self.root / key}.png' does not exist")
        return path

    def _find(self, key: str) -> Path | None:
        path = self.root / f"{key}.png"
        if path.is_file():
            return path
        siblings = path.parent.iterdir() if path.parent.is_dir() else ()
        return next((file for file in siblings if file.stem == path.stem and _is_image(file) and file.is_file()), None)


class LmdbStore:
    """Frames as packed or encoded images in an LMDB, keys "000/00000014" (BasicSR) or "000_00000014" (mmagic)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = root.resolve()  # LMDB opens a database once, however its path is written
        # "000/00000014": b"000_00000014"; the file names of meta_info.txt, else the keys themselves
        self._keys = {_slashed(key): key.encode() for key in _listed_keys(self._folder)}
        self._clips: dict[str, list[str]] = defaultdict(list)
        for key in sorted(self._keys, key=natural_order):
            clip, _, frame = key.rpartition("/")
            self._clips[clip].append(frame)

    def clips(self) -> list[str]:
        """Returns the clips of meta_info.txt, sorted."""
        return list(self._clips)

    def frames(self, clip: str) -> list[str]:
        """Returns the names of a clip's frames, numbers in numeric order."""
        return self._clips.get(clip, [])

    def has(self, key: str) -> bool:
        """Returns whether there is a value for this key."""
        return key in self._keys

    def size(self, key: str) -> tuple[int, int]:
        """Returns a frame's height and width; of a PNG or a packed frame, from its first bytes."""
        with _environment(self._folder).begin(buffers=True) as transaction:
            start = bytes(self._value(transaction, key)[:SIZE_BYTES])
        return image_size(start) or self.read(key).shape[:2]

    def read(self, key: str, crop: Crop | None = None) -> np.ndarray:
        """Returns a frame or a rectangle of it: (h, w, 3) uint8 RGB."""
        with _environment(self._folder).begin(buffers=True) as transaction:
            return decode(self._value(transaction, key), f"{self.root}, key {key}", crop)

    def value(self, key: str) -> bytes:
        """Returns what is stored for a frame, as it is."""
        with _environment(self._folder).begin(buffers=True) as transaction:
            return bytes(self._value(transaction, key))

    def _value(self, transaction: lmdb.Transaction, key: str) -> bytes | memoryview:
        try:
            value = transaction.get(self._keys.get(key, key.encode()))
        except lmdb.Error as error:
            raise ValueError(f"LMDB '{self.root}' is damaged at '{key}': {error}; copy or pack it again") from error
        if value is None:
            raise FileNotFoundError(f"LMDB '{self.root}' has no frame '{key}'")
        return value


def _leads_back(folder: str) -> bool:
    """Returns whether a folder is a link to one that it is in."""
    if not os.path.islink(folder):
        return False
    target, place = (os.path.join(os.path.realpath(path), "") for path in (folder, os.path.dirname(folder)))
    return place.startswith(target)


def natural_order(name: str) -> list[tuple[int, str]]:
    """Returns a sort key under which frame2 comes before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


# Touches the end of every value; a value's pages lie behind each other.
_READ_ALL = """
import lmdb, sys
with lmdb.open(sys.argv[1], readonly=True, lock=False).begin(buffers=True) as transaction:
    for _, value in transaction.cursor():
        value[-1:].tobytes()
"""


@lru_cache(maxsize=16)
def _environment(folder: Path) -> lmdb.Environment:
    """Returns the open database; LMDB allows each process to open it once.

    Raises:
        ValueError: it is damaged, or a part of it is missing.
    """
    try:
        environment = lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False)
        usage = environment.stat()
    except lmdb.Error as error:
        raise ValueError(f"LMDB '{folder}' cannot be read: {error}") from error
    expected = (environment.info()["last_pgno"] + 1) * usage["psize"]
    size = (folder / "data.mdb").stat().st_size
    # To read a page that is not there would end the process without a word. After deletions, unused ones may not be.
    command = [sys.executable, "-c", _READ_ALL, folder]
    if size < expected and subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
        environment.close()
        raise ValueError(f"LMDB '{folder}' is truncated: data.mdb has {size} of {expected} bytes; copy it again")
    return environment


if hasattr(os, "register_at_fork"):
    # A forked worker must not use its parent's handle, and cannot open its own before that one is gone.
    os.register_at_fork(after_in_child=_environment.cache_clear)


def _listed_keys(root: Path) -> list[str]:
    """Returns an LMDB's keys as they are stored: from meta_info.txt, or from the database where there is none."""
    meta_info = root / "meta_info.txt"
    if meta_info.is_file():
        lines = read_text(meta_info).splitlines()
        return [os.path.splitext(_AFTER_KEY.sub("", line))[0] for line in lines if line.strip()]
    try:
        with _environment(root).begin() as transaction:
            return [key.decode() for key in transaction.cursor().iternext(values=False)]
    except lmdb.Error as error:
        raise ValueError(f"LMDB '{root}' is damaged: {error}; copy or pack it again") from error


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")


def _slashed(key: str) -> str:
    """Returns BasicSR's spelling of a key: "000/00000014" for mmagic's "000_00000014"."""
    return key if "/" in key else "/".join(key.rsplit("_", 1))
