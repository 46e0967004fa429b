"""Frames in an LMDB: packed, or as encoded images."""

import os
import re
import subprocess
import sys
from collections import defaultdict
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import lmdb
import numpy as np

from vsr.data.lists.meta_info import read_text
from vsr.data.sources.base import Crop, natural_order
from vsr.data.sources.images import decode, png_crop, size_of

_AFTER_KEY = re.compile(r"\s+(\([\d, ]+\)\s*)?\d*\s*$")  # of a line of an LMDB's meta_info.txt: size and compression
# Reads the end of every value, whose pages are contiguous.
_READ_ALL = """
import lmdb, sys
with lmdb.open(sys.argv[1], readonly=True, lock=False).begin(buffers=True) as transaction:
    for _, value in transaction.cursor():
        value[-1:].tobytes()
"""


class LmdbStore:
    """Frames as packed or encoded images in an LMDB, keys "000/00000014" (BasicSR) or "000_00000014" (mmagic)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = root.resolve()  # LMDB opens a database once, however its path is written
        # BasicSR's spelling of a key, "000/00000014": as it is stored, b"000_00000014" by mmagic
        keys = _listed_keys(self._folder)
        self._keys = {key if "/" in key else "/".join(key.rsplit("_", 1)): key.encode() for key in keys}
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
        """Returns a frame's height and width, from the header of its image."""
        with database(self._folder).begin(buffers=True) as transaction:
            return size_of(BytesIO(self._value(transaction, key))) or self.read(key).shape[:2]

    def read(self, key: str, crop: Crop | None = None) -> np.ndarray:
        """Returns a frame or a rectangle of it: (h, w, 3) uint8 RGB."""
        with database(self._folder).begin(buffers=True) as transaction:
            data = self._value(transaction, key)
            part = png_crop(data, crop)
            return decode(data, f"{self.root}, key {key}", crop) if part is None else part

    def _value(self, transaction: lmdb.Transaction, key: str) -> bytes | memoryview:
        try:
            value = transaction.get(self._keys.get(key, key.encode()))
        except lmdb.Error as error:
            raise ValueError(f"LMDB '{self.root}' is damaged at '{key}': {error}; copy or pack it again") from error
        if value is None:
            raise FileNotFoundError(f"LMDB '{self.root}' has no frame '{key}'")
        return value


@lru_cache(maxsize=16)
def database(folder: Path) -> lmdb.Environment:
    """Returns the open database, which a process may open once; raises ``ValueError`` if it is damaged or truncated."""
    try:
        environment = lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False)
        usage = environment.stat()
    except lmdb.Error as error:
        raise ValueError(f"LMDB '{folder}' cannot be read: {error}") from error
    expected = (environment.info()["last_pgno"] + 1) * usage["psize"]
    size = (folder / "data.mdb").stat().st_size
    # Reading past the end of a truncated file raises SIGBUS. After deletions, unused pages may be missing.
    command = [sys.executable, "-c", _READ_ALL, folder]
    if size < expected and subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
        environment.close()
        raise ValueError(f"LMDB '{folder}' is truncated: data.mdb has {size} of {expected} bytes; copy it again")
    return environment


if hasattr(os, "register_at_fork"):
    # A forked worker must not use its parent's handle, and cannot open its own while that one exists.
    os.register_at_fork(after_in_child=database.cache_clear)


def _listed_keys(root: Path) -> list[str]:
    """Returns an LMDB's keys as they are stored: from meta_info.txt, or from the database where there is none."""
    meta_info = root / "meta_info.txt"
    if meta_info.is_file():
        lines = read_text(meta_info).splitlines()
        return [os.path.splitext(_AFTER_KEY.sub("", line))[0] for line in lines if line.strip()]
    try:
        with database(root).begin() as transaction:
            return [key.decode() for key in transaction.cursor().iternext(values=False)]
    except lmdb.Error as error:
        raise ValueError(f"LMDB '{root}' is damaged: {error}; copy or pack it again") from error
