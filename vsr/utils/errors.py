"""User errors, each reported in one message."""

import logging
import os
import signal
import sys
import sysconfig
import traceback
from collections.abc import Callable
from errno import EACCES, EDQUOT, EEXIST, EFBIG, EISDIR, ENAMETOOLONG, ENOSPC, ENOTDIR, EPERM, EROFS
from pathlib import Path

from vsr.utils.log import logger, outlive_the_terminal

REMEDIES = {  # by the system's error number
    **dict.fromkeys((ENOSPC, EDQUOT), "the disk is full; earlier files are intact. Make room, then run again"),
    **{e: f"{os.strerror(e)}: change the permissions, or work in another folder" for e in (EACCES, EPERM, EROFS)},
    EEXIST: "something else has this name, a file or a link that leads nowhere: move it away",
    ENOTDIR: "a file stands where a folder is needed: move it away",
    EISDIR: "a folder stands where a file is needed: move it away, or give the file's name",
    EFBIG: "larger than this file system, or `ulimit -f`, lets a file be: work in another folder, or raise it",
    ENAMETOOLONG: "the name is too long for this file system: choose a shorter one",
}
LOST_WORKER = "DataLoader worker (pid"  # PyTorch raises a plain RuntimeError, from a signal handler: anywhere
LOST_WORKER_REMEDY = "It probably ran out of memory: lower num_worker_per_gpu, num_prefetch_queue or the batch size."
# code that is not the user's: ours, and that of Python and of installed packages
LIBRARIES = (Path(__file__).parents[1], *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))


class UserError(Exception):
    """A mistake in options, data or usage; the message says got, expected and remedy."""


def refuse(mistakes: list[str]) -> None:
    """Raises ValueError with a line for each mistake, if there are any; a line begins with the option's name."""
    if mistakes:
        raise ValueError("\n".join(mistakes))


def described(error: Exception) -> str:
    """Returns an error that the user's code raised, "ZeroDivisionError: division by zero (bad.py, line 45)"."""
    if isinstance(error, SyntaxError):
        text, places = error.msg, [(error.filename, error.lineno)]
    else:
        text = (str(error).splitlines() or [""])[0]
        places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    others = ("<", *(f"{folder}{os.sep}" for folder in LIBRARIES))
    own = [(file, line) for file, line in places if file and not file.startswith(others)]
    kind = "" if isinstance(error, ValueError | ImportError) else type(error).__name__
    return ": ".join(filter(None, (kind, text))) + (f" ({Path(own[-1][0]).name}, line {own[-1][1]})" if own else "")


def tell(error: UserError | str) -> None:
    """Prints a message to standard error, and writes it to the log file."""
    text = f"error: {error}"
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(logging.LogRecord(logger.name, logging.ERROR, "", 0, text, None, None))
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def exit_cleanly(main: Callable[[], int | None]) -> None:
    """Runs an entry point and exits; a user's mistake ends in one message and exit code 2, without a traceback."""
    outlive_the_terminal()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as vsr/__init__.py leaves it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(main() or 0)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
    except (UserError, RuntimeError, OSError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.errno in REMEDIES:
            message = f"{error.filename or 'writing'}: {REMEDIES[error.errno]}"
        elif isinstance(error, RuntimeError) and LOST_WORKER in message:
            message = f"{' '.join(message.split())} {LOST_WORKER_REMEDY}"
        elif not isinstance(error, UserError):
            raise
        tell(message)
        sys.exit(2)
