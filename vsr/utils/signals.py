"""Ctrl-C and a scheduler's signals as requests that the work in hand may answer when it is safe to stop."""

import signal
from types import FrameType, TracebackType
from typing import NoReturn

from vsr.utils.log import logger

# Slurm can be told to send SIGUSR1 before the time is over; a terminal that is closed sends SIGHUP
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopSignals:
    """While entered, the first signal of ``STOPPING`` is kept as a request; a later Ctrl-C interrupts at once.

    Another later signal changes nothing: schedulers and launchers repeat them, and ``kill -9`` is there.
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

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def end_program(self, iteration: int) -> NoReturn:
        """Ends the program after a stop was requested, here or of another process, and the state was saved.

        The code is 0 where a scheduler asked: for it the job has ended well and may be started again.
        """
        name = self.received.name if self.received else "a signal to another process"
        logger.info("stopped by %s at iteration %d; --auto_resume resumes (of vsr.tables: --resume)", name, iteration)
        raise SystemExit(128 + signal.SIGINT if self.received is signal.SIGINT else 0)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt


def leave_signals_to_the_main_process(worker: int = 0) -> None:
    """Ignores what terminals and schedulers send to all processes at once; for workers of a data loader.

    A worker that ended would take the main process, which still has to save, with it.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
