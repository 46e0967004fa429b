"""Atomic writes and free space."""

import os
import secrets
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vsr.utils.errors import UserError
from vsr.utils.log import logger


def write_atomically(file: Path, write: Callable[[BinaryIO], object], flush: bool = True) -> None:
    """Writes a file so that a crash at any moment leaves either the old file or the new one, complete.

    Args:
        file: the complete file; its folder is created.
        write: writes to a temporary file beside it. Its name is random: containers on one folder share process IDs.
        flush: waits for the disk, so that the file also survives a power failure.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            if flush:
                os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    if flush:
        sync(file.parent)


def write_text_atomically(file: Path, text: str) -> None:
    """Writes UTF-8 text; see :func:`write_atomically`."""
    write_atomically(file, lambda stream: stream.write(text.encode()))


def sync(path: Path) -> None:
    """Waits until a file's content, or the names in a folder, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path) -> None:
    """Removes the temporary files of killed writes; no other process may be writing there."""
    for file in folder.rglob(".*.tmp"):
        file.unlink()


def size_text(num_bytes: float) -> str:
    """Returns a number of bytes as "12.3 GB", "4.5 MB" or "0.7 kB"."""
    unit, name = (1e9, "GB") if num_bytes >= 1e9 else (1e6, "MB") if num_bytes >= 1e6 else (1e3, "kB")
    return f"{num_bytes / unit:.1f} {name}"


def free_bytes(folder: Path) -> int:
    """Returns the free space on the disk of ``folder``, which need not exist."""
    path = folder.absolute()
    return shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free


def check_space(folder: Path, needed: float, remedy: str) -> None:
    """Raises ``UserError`` if the disk of ``folder`` cannot hold ``needed`` more bytes."""
    free = free_bytes(folder)
    if needed > 0.98 * free:
        raise UserError(f"'{folder}' needs {size_text(needed)}, but {size_text(free)} are free: {remedy}")


@contextmanager
def failing_is_told(active: bool) -> Generator[None]:
    """If ``active``, logs a failed write instead of raising."""
    try:
        yield
    except (OSError, UserError) as error:
        if not active:
            raise
        logger.warning("%s Continuing without it.", error)
