"""A film: what the first pass over it finds, and its frames in order."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vsr.contracts import Clip
from vsr.data.sources import images
from vsr.data.video.colors import (
    HDR,
    Colors,
)
from vsr.data.video.reader import frames_of, pixels_of
from vsr.data.video.side_data import Light
from vsr.video.sources import Source

UNTAGGED_RATE = 25  # frames per second, where a stream has no times


class Film(NamedTuple):
    """What a first pass over a film found.

    Args:
        height: of an upright frame.
        width: of an upright frame.
        depth: bits of a component.
        colors: of the stream; matrix and range are guesses where it has no tags.
        aspect: width of a pixel / its height, upright.
        times: of each frame, in ``time_base`` seconds, ascending.
        last: duration of the last frame.
        time_base: seconds, as numerator and denominator.
        cuts: the first frame of each shot but the first.
        pixel_format: of the stream, FFmpeg's name; "" of image files.
        losses: what could not be read or kept, for the closing line.
        light: mastering and light levels of an HDR film.
    """

    height: int
    width: int
    depth: int
    colors: Colors
    aspect: tuple[int, int]
    times: list[int]
    last: int
    time_base: tuple[int, int]
    cuts: list[int]
    pixel_format: str
    losses: list[str]
    light: Light = Light()

    @property
    def rate(self) -> Fraction:
        """Mean frames per second."""
        seconds = (self.times[-1] + self.last - self.times[0]) * Fraction(*self.time_base)
        return Fraction(len(self.times) / seconds).limit_denominator(1001) if seconds else Fraction(UNTAGGED_RATE)

    @property
    def longest(self) -> int:
        """Frames of the longest shot."""
        return max(stop - start for start, stop in pairwise([0, *self.cuts, len(self.times)]))

    def seconds(self, index: int) -> Fraction:
        """Returns the time of a frame; of the index after the last, the film's end."""
        time = self.times[index] if index < len(self.times) else self.times[-1] + self.last
        return time * Fraction(*self.time_base)


def hdr_of(film: Film) -> str | None:
    """Returns the name of an HDR film's transfer function, None of an SDR film."""
    return HDR.get(film.colors.transfer)


def shots(
    film: Film, name: str, part: range, names: Callable[[int], str], read: Callable[[int], np.ndarray]
) -> list[Clip]:
    """Returns the shots that hold a range of frames, as clips; only the frames of the range are their targets."""
    borders = [0, *film.cuts, len(film.times)]
    clips = []
    for start, stop in pairwise(borders):
        targets = range(max(part.start, start) - start, min(part.stop, stop) - start)
        if len(targets):
            frames = tuple(names(index) for index in range(start, stop))
            clips.append(Clip(name, frames, _offset(read, start), None, targets, in_order=True))
    return clips


class Reader:
    """The frames of a film by their index; fastest in ascending order, since earlier ones are decoded anew."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._next: int | None = None  # index of the next frame; None before the first
        self._reformatter = VideoReformatter()

    def read(self, index: int) -> np.ndarray:
        """Returns a frame, (h, w, 3) RGB, uint8 or uint16."""
        if self.source.frames:
            file = self.source.frames[index]
            return images.decode(file.read_bytes(), f"frame '{file}'", keeps_depth=True)
        if self._next is None or index < self._next:
            self._frames, self._next = frames_of(self.source.path, threads=0), 0
        for frame in self._frames:
            self._next += 1
            if self._next > index:
                return pixels_of(frame, self.source.path, self._reformatter)
        raise ValueError(f"video '{self.source.path}' ends after {self._next} frames; was it changed?")


def _offset(read: Callable[[int], np.ndarray], start: int) -> Callable[[int], np.ndarray]:
    return lambda index: read(start + index)


def to_record(film: Film) -> dict[str, Any]:
    """Returns a film as JSON holds it."""
    return film._asdict()


def from_record(record: dict[str, Any]) -> Film:
    """Returns the film of :func:`to_record`."""
    pairs = {key: tuple(record[key]) for key in ("aspect", "time_base")}
    light = Light(*map(tuple, record["light"]))
    return Film(**{**record, **pairs, "colors": Colors(*record["colors"]), "light": light})


def frame_names(source: Source) -> Callable[[int], str]:
    """Returns the function that names a frame: of image files their stems, of videos eight digits from 0."""
    if source.frames:
        return lambda index: source.frames[index].stem
    return lambda index: f"{index:08d}"
