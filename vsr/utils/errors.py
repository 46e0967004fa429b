"""User errors, each reported in one message."""

import errno
import os
import signal
import sys
from collections.abc import Callable

from vsr.utils.log import note_in_file, outlive_the_terminal

REMEDIES = {  # by the system's error number
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT), "the disk is full; what was written before is intact. Make room, then run again"
    ),
    **{
        number: f"{os.strerror(number)}: change the permissions, or work in another folder"
        for number in (errno.EACCES, errno.EPERM, errno.EROFS)
    },
    errno.EEXIST: "something else has this name, a file or a link that leads nowhere: move it away",
    errno.ENOTDIR: "a file stands where a folder is needed: move it away",
    errno.EISDIR: "a folder stands where a file is needed: move it away, or give the file's name",
    errno.EFBIG: "larger than this file system, or `ulimit -f`, lets a file be: work in another folder, or raise it",
    errno.ENAMETOOLONG: "the name is too long for this file system: choose a shorter one",
}


LOST_WORKER = "DataLoader worker (pid"  # PyTorch raises a plain RuntimeError, from a signal handler: anywhere
WHY_A_WORKER_IS_LOST = (
    "If nobody stopped it, memory ran out: lower num_worker_per_gpu, num_prefetch_queue or the batch. --auto_resume "
    "resumes a training from its last state."
)


class UserError(Exception):
    """A mistake in options, data or usage; the message says got, expected and remedy."""


def refuse(mistakes: list[str]) -> None:
    """Raises ValueError with a line for each mistake, if there are any; a line begins with the option's name."""
    if mistakes:
        raise ValueError("\n".join(mistakes))


def tell(error: UserError) -> None:
    """Prints a message to standard error, and writes it to the log file."""
    note_in_file(f"error: {error}")
    sys.stderr.write(f"error: {error}\n")
    sys.stderr.flush()


def exit_cleanly(main: Callable[[], int | None]) -> None:
    """Runs an entry point and exits; a user's mistake ends in one message and exit code 2, without a traceback."""
    outlive_the_terminal()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as vsr/__init__.py leaves it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(main() or 0)
    except UserError as error:
        tell(error)
        sys.exit(2)
    except RuntimeError as error:
        if LOST_WORKER not in str(error):
            raise
        tell(UserError(f"{' '.join(str(error).split())} {WHY_A_WORKER_IS_LOST}"))
        sys.exit(2)
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        tell(UserError(f"{error.filename or 'writing'}: {REMEDIES[error.errno]}"))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
