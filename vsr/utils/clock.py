"""Times a loop."""

import time
from collections.abc import Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Clock:
    """Measures steps per second, and the share of the time spent waiting for data."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Starts measuring anew."""
        self.since, self.waited, self.steps = time.perf_counter(), 0.0, 0

    def wait_for(self, items: Iterator[Item]) -> Item:
        """Returns the next item, timing the wait for it."""
        before = time.perf_counter()
        item = next(items)
        self.waited += time.perf_counter() - before
        self.steps += 1
        return item

    def speed_and_wait(self) -> tuple[float, float]:
        """Returns steps per second and the waiting share since the last start or call, and starts anew."""
        elapsed, waited, steps = time.perf_counter() - self.since, self.waited, self.steps
        self.start()
        return steps / elapsed, waited / elapsed
