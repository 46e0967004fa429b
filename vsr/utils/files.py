"""Atomic writes: whole or not there."""

import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vsr.utils.errors import UserError
from vsr.utils.log import logger


def write_atomically(file: Path, write: Callable[[BinaryIO], object], flush: bool = True) -> None:
    """Writes a file so that a crash at any moment leaves the old one, or the new one, whole.

    Args:
        file: what appears under this name.
        write: receives a temporary file beside it.
        flush: it also survives a power cut, for which the disk is waited for.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            if flush:
                os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    if not flush:
        return
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename, too, survives a power cut
    finally:
        os.close(directory)


def remove_unfinished(folder: Path) -> None:
    """Removes what writes that were killed have left behind; nobody may be writing there."""
    for file in folder.rglob(".*.tmp"):
        file.unlink()


def write_text_atomically(file: Path, text: str) -> None:
    """Writes UTF-8 text; see :func:`write_atomically`."""
    write_atomically(file, lambda stream: stream.write(text.encode()))


def size_text(num_bytes: float) -> str:
    """Returns a number of bytes as "12.3 GB", "4.5 MB" or "0.7 kB"."""
    unit, name = (1e9, "GB") if num_bytes >= 1e9 else (1e6, "MB") if num_bytes >= 1e6 else (1e3, "kB")
    return f"{num_bytes / unit:.1f} {name}"


def free_bytes(folder: Path) -> int:
    """Returns the free space of the disk that holds ``folder``, or will."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@contextmanager
def failing_is_told(active: bool) -> Generator[None]:
    """Where ``active``, a write that fails is only logged."""
    try:
        yield
    except (OSError, UserError) as error:
        if not active:
            raise
        logger.warning("%s Continuing without it.", error)
