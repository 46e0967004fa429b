"""Writes restored frames in parts, in a thread of its own."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from vsr.utils.errors import UserError
from vsr.utils.files import sync
from vsr.video.encoding import Encoder, Encoding, encoder, write_png
from vsr.video.pictures import Size
from vsr.video.work import Work


class Target(NamedTuple):
    """What is written.

    Args:
        out: the file, or the folder of PNG files.
        suffix: of the container, ".mkv".
        size: of the frames.
        encoding: None writes PNG files.
        names: names the PNG file of a frame.
    """

    out: Path
    suffix: str
    size: Size
    encoding: Encoding | None
    names: Callable[[int], str]


class Queue:
    """Calls functions in order in a thread of its own; at most ``size`` wait. Errors are raised by a later call."""

    def __init__(self, size: int) -> None:
        self._size, self._waiting = size, deque[Future[None]]()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> "Queue":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def put(self, call: Callable[..., None], *arguments: Any) -> None:
        """Adds a call; waits while there are too many."""
        self._waiting.append(self._pool.submit(call, *arguments))
        self.wait(self._size)

    def wait(self, left: int = 0) -> None:
        """Waits until only so many calls are left."""
        while len(self._waiting) > left:
            self._waiting.popleft().result()


class PartWriter:
    """Writes frames in order into the parts of a work folder; a part gets its name when it is complete."""

    def __init__(self, work: Work, target: Target, parts: Iterable[range]) -> None:
        self.work, self.target = work, target
        self._parts = iter(parts)
        self._part = range(0)
        self._stack = ExitStack()
        self._encoder: Encoder | None = None

    def write(self, number: int, pixels: np.ndarray) -> None:
        """Writes a frame, (h, w, 3) RGB; ``number`` is its index in the film."""
        if number not in self._part:
            self._part = next(self._parts)
            if self.target.encoding is not None:
                self._encoder = self._stack.enter_context(encoder(str(self._unfinished()), self.target.encoding))
        if self._encoder is None:
            write_png(self.work.frames / f"{self.target.names(number)}.png", pixels)
        else:
            self._encoder.write(pixels)
        if number == self._part.stop - 1:
            self._complete()

    def close(self) -> None:
        """Gives up a part that is not complete."""
        if self._encoder is not None:
            self._encoder.give_up()
        self._stack.close()
        if self._part:
            self._unfinished().unlink(missing_ok=True)

    def _complete(self) -> None:
        self._stack.close()
        file = self._unfinished()
        if self._encoder is None:
            file.touch()
        else:
            with av.open(str(file)) as part:
                count = sum(packet.size > 0 for packet in part.demux(video=0))
            if count != len(self._part):
                raise UserError(f"'{file}' holds {count} of {len(self._part)} frames: is the disk full?")
        sync(file)
        file.replace(self.work.part(self._part))
        sync(self.work.folder)
        self._encoder, self._part = None, range(0)

    def _unfinished(self) -> Path:
        final = self.work.part(self._part)
        return final.with_name(f".{final.name}.tmp")
