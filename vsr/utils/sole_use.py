"""One process at a time works in a folder."""

import fcntl
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from vsr.utils.errors import UserError
from vsr.utils.log import logger


@contextmanager
def sole_use(folder: Path, active: bool = True) -> Generator[None]:
    """Keeps other processes, also on other machines, out of a folder while entered, or until this process dies.

    Args:
        folder: need not exist. The lock is the file ``.NAME.lock`` beside it, which stays.
        active: false, on all but the main process, locks nothing.

    Raises:
        UserError: another process works there.
    """
    if not active:
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("a+", encoding="utf-8") as stream:
        try:  # this kind of lock is not inherited: workers that outlive a killed process hold nothing
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            stream.seek(0)
            owner = stream.read().strip() or "another process"
            raise UserError(
                f"{folder} is in use by {owner}: wait for it, stop it, or choose another name (--set name=…)"
            ) from None
        except OSError as error:
            logger.warning("%s cannot be locked (%s): make sure no other process trains there", folder, error.strerror)
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        stream.flush()
        yield
