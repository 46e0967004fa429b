"""The program's log: to the terminal, without tearing progress bars, and to a file."""

import logging
import sys
from pathlib import Path

from tqdm import tqdm

logger = logging.getLogger("vsr")


class _AboveBars(logging.Handler):
    """Writes to standard output, above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def start_log(file: Path | None = None, active: bool = True) -> None:
    """Sends the log to the terminal and, appending, to a file.

    Args:
        file: None writes to the terminal only.
        active: false, on all but the main process, lets only warnings through.
    """
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(logging.INFO if active else logging.WARNING)
    handlers: list[logging.Handler] = [_AboveBars()]
    if file is not None and active:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
        logger.addHandler(handler)
