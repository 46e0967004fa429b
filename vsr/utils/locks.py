"""One process at a time works in a folder."""

import errno
import fcntl
import os
import socket
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from vsr.utils.errors import UserError
from vsr.utils.log import logger

NO_LOCK = "%s cannot be locked (%s): make sure no other process works there"


@contextmanager
def sole_use(
    folder: Path,
    active: bool = True,
    doing: str = "in use",
    remedy: str = "wait for it, stop it, or choose another name (--set name=…)",
) -> Generator[None]:
    """Keeps other processes, also on other machines, out of a folder while entered, or until this process dies.

    Args:
        folder: need not exist. The lock is the file ``.NAME.lock`` beside it, or in it where only that can be written;
            it stays.
        active: false, on all but the main process, locks nothing.
        doing: what goes on in the folder, for the message.
        remedy: what the second process's user can do.

    Raises:
        UserError: another process works there.
    """
    if not active:
        yield
        return
    stream = None
    try:
        stream = _lock_file(folder.resolve()).open("a+", encoding="utf-8")  # one folder under two paths has one lock
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        logger.warning(NO_LOCK, folder, error.strerror)
    if stream is None:
        yield
        return
    with stream:
        try:  # this kind of lock is not inherited: workers that outlive a killed process hold nothing
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            stream.seek(0)
            owner = stream.read().strip() or "another process"
            raise UserError(f"{folder} is {doing} by {owner}: {remedy}") from None
        except OSError as error:
            logger.warning(NO_LOCK, folder, error.strerror)
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        stream.flush()
        yield


def sole_preparation(folder: Path, active: bool = True) -> AbstractContextManager[None]:
    """Keeps other preparations of the same data out; see :func:`sole_use`."""
    return sole_use(folder, active, "being prepared", "wait for it, or stop it")


def _lock_file(folder: Path) -> Path:
    """Returns where the lock of a folder is, in another folder that is there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    is_beside = os.access(folder.parent, os.W_OK) or not folder.is_dir()
    return (folder.parent if is_beside else folder) / f".{folder.name}.lock"
