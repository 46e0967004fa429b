"""Ctrl-C and a scheduler's signals as requests to stop at the next safe moment."""

import signal
from types import FrameType
from typing import NoReturn

from vsr.utils.log import logger

# Slurm sends SIGUSR1 before the time limit if asked to (--signal); a closed terminal sends SIGHUP.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopSignals:
    """While entered, keeps the first signal of ``STOPPING`` as a request; a second Ctrl-C interrupts at once.

    Other repeated signals are ignored, because schedulers and launchers repeat them.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._former: dict[int, object] = {}

    def __bool__(self) -> bool:
        return self.received is not None

    def __enter__(self) -> "StopSignals":
        for number in STOPPING:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as nohup makes it
                self._former[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def end_program(self, iteration: int) -> NoReturn:
        """Exits after a stop was requested, of this or another process, and the state was saved.

        The exit code is 0 after a scheduler's signal, so that it may start the job again.
        """
        name = self.received.name if self.received else "a signal to another process"
        logger.info("stopped by %s at iteration %d; --auto_resume resumes it", name, iteration)
        raise SystemExit(128 + signal.SIGINT if self.received is signal.SIGINT else 0)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
