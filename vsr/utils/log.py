"""The program's log: to the terminal, without tearing progress bars, and to a file."""

import io
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

logger = logging.getLogger("vsr")


class _Terminal:
    """Standard output or error; writing never fails, even to a closed stream, a full disk or ``| head``."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w") if stream is None else stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # `×` where the locale is ASCII

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def outlive_the_terminal() -> None:
    """Lets the program continue when its terminal is gone; log files still have to be writable."""
    sys.stdout, sys.stderr = _Terminal(sys.stdout), _Terminal(sys.stderr)  # type: ignore[assignment]  # all that is used


class _AboveBars(logging.Handler):
    """Writes to standard output, above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def start_log(file: Path | None = None, active: bool = True) -> None:
    """Sends the log to the terminal and, appending, to a file; where not ``active``, only warnings to the terminal.

    Only the file receives lines of the level DEBUG.
    """
    logger.propagate = False
    logger.setLevel(logging.DEBUG if active else logging.WARNING)
    logger.handlers = [_AboveBars(logging.INFO)]
    if file is not None and active:
        file.parent.mkdir(parents=True, exist_ok=True)
        logger.addHandler(logging.FileHandler(file, encoding="utf-8"))
    for handler in logger.handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))


def counted(number: int, noun: str) -> str:
    """Returns "1 clip", "2 clips"."""
    return f"{number} {noun}{'s' * (number != 1)}"
