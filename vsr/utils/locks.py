"""One process at a time works in a folder."""

# filelock leaves parts of its functions without types
# pyright: reportUnknownMemberType=false

import errno
import os
import socket
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vsr.utils.errors import UserError
from vsr.utils.log import logger

# Read-only folders, and file systems without locks.
CANNOT_LOCK = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


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

    Args:
        folder: need not exist. The lock file is ``.NAME.lock`` beside it, or in it where only that can be written.
        active: false, on all but the main process, locks nothing.
        doing: the work that is going on, for the message.
        remedy: advice for the message.
        wait: waits for the other process instead of raising.

    Raises:
        UserError: another process works there.
    """
    if not active:
        yield
        return
    file = _lock_file(folder.resolve())  # one folder under two paths has one lock
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


def sole_preparation(folder: Path, active: bool = True) -> AbstractContextManager[None]:
    """Keeps other preparations of the same data out; see :func:`sole_use`."""
    return sole_use(folder, active, "being prepared", "wait for it, or stop it")


def _lock_file(folder: Path) -> Path:
    """Returns the lock file of a folder; creates the parent folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    is_beside = os.access(folder.parent, os.W_OK) or not folder.is_dir()
    return (folder.parent if is_beside else folder) / f".{folder.name}.lock"
