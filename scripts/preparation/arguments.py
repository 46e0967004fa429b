"""Types for the command lines of the scripts that prepare data: argparse names the argument beside what they raise."""

from argparse import ArgumentTypeError
from contextlib import suppress
from pathlib import Path

from vsr.data.sources import open_store
from vsr.data.sources.base import FrameStore, IOBackend


def at_least_one(text: str) -> int:
    """Returns a whole number of at least 1."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def existing_file(text: str) -> Path:
    """Returns the path of a file that is there."""
    if not Path(text).is_file():
        raise ArgumentTypeError(f"there is no file '{text}'")
    return Path(text)


def existing_folder(text: str) -> Path:
    """Returns the path of a folder that is there."""
    if not Path(text).is_dir():
        raise ArgumentTypeError(f"there is no folder '{text}'")
    return Path(text)


def folder_to_make(text: str) -> Path:
    """Returns the path of a folder, there or not."""
    if Path(text).exists() and not Path(text).is_dir():
        raise ArgumentTypeError(f"'{text}' is a file; name a folder")
    return Path(text)


def open_any(root: Path) -> FrameStore:
    """Returns the store of a folder or an LMDB, whichever it is: a script has no ``io_backend``."""
    if not (root / "data.mdb").is_file():
        return open_store(root)
    store = open_store(root, IOBackend("lmdb"))
    for clip in store.clips()[:1]:  # opens the database, which of several threads only one could
        with suppress(ValueError, FileNotFoundError):  # a damaged frame is told when its turn comes
            store.size(f"{clip}/{store.frames(clip)[0]}")
    return store
