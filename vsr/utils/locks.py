"""One process at a time works in a folder."""

# filelock leaves parts of its functions without types
# pyright: reportUnknownMemberType=false

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from errno import EACCES, ENOLCK, ENOSYS, EOPNOTSUPP, EPERM, EROFS
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from vsr.utils.errors import UserError
from vsr.utils.log import logger

CANNOT_LOCK = (EACCES, EPERM, EROFS, ENOLCK, ENOSYS, EOPNOTSUPP)  # read-only folders, file systems without locks


@contextmanager
def sole_use(
    folder: Path,
    active: bool = True,
    doing: str = "in use",
    remedy: str = "wait for it, stop it, or choose another name (--set name=…)",
    wait: bool = False,
) -> Generator[None]:
    """Keeps other processes, also on other machines, out of a folder while entered, or until this process dies.

    The lock is flock's, by filelock, which closes it in forked workers: a worker that outlives its killed parent holds
    nothing. NFS passes flock on to its server since Linux 2.6.12.

    The lock file is ``.NAME.lock`` beside the folder, which need not exist, or in it where only that can be written.
    Where not ``active``, as on all but the main process, nothing is locked. ``doing``, the other process's work, and
    ``remedy`` are for the message; ``wait`` waits for that process instead of raising.

    Raises:
        UserError: another process works there.
    """
    if not active:
        yield
        return
    path = folder.resolve()  # one folder under two paths has one lock
    path.parent.mkdir(parents=True, exist_ok=True)
    is_beside = os.access(path.parent, os.W_OK) or not path.is_dir()
    file = (path.parent if is_beside else path) / f".{path.name}.lock"
    lock = FileLock(file)
    try:
        lock.acquire(timeout=-1 if wait else 0)
        file.write_text(f"process {os.getpid()} on {socket.gethostname()}")
    except Timeout:
        owner = file.read_text().strip() or "another process"
        raise UserError(f"{folder} is {doing} by {owner}: {remedy}") from None
    except OSError as error:
        if error.errno not in CANNOT_LOCK:
            raise
        logger.warning("%s cannot be locked (%s): make sure no other process works there", folder, error.strerror)
    try:
        yield
    finally:
        lock.release()


sole_preparation = partial(sole_use, doing="being prepared", remedy="wait for it, or stop it")
