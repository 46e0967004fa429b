"""Reads frames ahead of the network, in threads, in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import TypeVar

from vsr.contracts import Clip
from vsr.utils.errors import UserError

T = TypeVar("T")
FRAMES_AHEAD = 8  # read and waiting for the network, at most; of 4K, 25 MB each


def read_ahead(wanted: Iterable[tuple[Clip, int]], num_threads: int, read: Callable[[Clip, int], T]) -> Generator[T]:
    """Yields ``read(clip, index)`` of the wanted frames, in order; ``wanted`` may be lazy.

    ``num_threads`` threads read ahead, one if a clip has to be read in order; 0 reads in this thread.

    Raises:
        UserError: a frame is unreadable.
    """

    def task(clip: Clip, index: int) -> T:
        try:
            return read(clip, index)
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from error

    for is_serial, frames in groupby(wanted, key=lambda frame: frame[0].in_order):
        tasks = (partial(task, clip, index) for clip, index in frames)
        yield from in_order(tasks, min(num_threads, 1) if is_serial else num_threads, FRAMES_AHEAD)


def in_order(tasks: Iterable[Callable[[], T]], num_threads: int, most_ahead: int = 0) -> Generator[T]:
    """Yields the tasks' results in order; threads compute them ahead.

    Args:
        tasks: may be lazy.
        num_threads: 0 computes them in this thread, when they are asked for.
        most_ahead: results that are computed or waiting beyond the one asked for; at least one per thread.
    """
    ahead: deque[Future[T]] = deque()
    with ThreadPoolExecutor(max(num_threads, 1)) as pool:
        try:
            for task in tasks:
                if not num_threads:
                    yield task()
                    continue
                ahead.append(pool.submit(task))
                if len(ahead) > max(num_threads, most_ahead):
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
