"""A film: what a first pass over it finds, and its frames in order."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vsr.contracts import Clip
from vsr.data.sources import images
from vsr.data.video.colors import (
    BT601,
    BT601_525,
    HDR,
    UNSPECIFIED,
    Colors,
    depth_of,
    is_full_range,
    is_rgb,
    matrix_of,
)
from vsr.data.video.reader import damage, frames_of, open_video, picture_stream, pixels_of
from vsr.utils.errors import UserError
from vsr.utils.log import counted
from vsr.video.sources import Source

SMALL = 80, 45  # width and height of the frames that cuts are found in
UNTAGGED_RATE = 25  # frames per second, where a stream has no times

_log = logging.getLogger(__name__)


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

    @property
    def rate(self) -> Fraction:
        """Mean frames per second."""
        seconds = (self.times[-1] + self.last - self.times[0]) * Fraction(*self.time_base)
        return Fraction(len(self.times) / seconds).limit_denominator(1001) if seconds else Fraction(UNTAGGED_RATE)

    def seconds(self, index: int) -> Fraction:
        """Returns the time of a frame; of the index after the last, the film's end."""
        time = self.times[index] if index < len(self.times) else self.times[-1] + self.last
        return time * Fraction(*self.time_base)


def scan(source: Source, fps: Fraction, find_cuts: Callable[[Iterable[np.ndarray]], Iterable[int]]) -> Film:
    """Decodes a film once, at small size.

    Args:
        source: the film.
        fps: frames per second of image files.
        find_cuts: yields the first frame of each shot but the first, of small grey frames; it reads all of them.

    Raises:
        UserError: it cannot be read, holds no frames, or its frames differ in size.
    """
    first = _scan_frames if source.frames else _scan_video
    try:
        return first(source, fps, find_cuts)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None


def no_cuts(frames: Iterable[np.ndarray]) -> Iterator[int]:
    """Yields nothing, but reads the frames."""
    for _ in frames:
        yield from ()


def _scan_video(source: Source, fps: Fraction, find_cuts: Callable[[Iterable[np.ndarray]], Iterable[int]]) -> Film:
    path, reformatter = source.path, VideoReformatter()
    read: list[Fraction | None] = []
    shown: list[av.VideoFrame] = []  # the first frame
    damaged: list[int] = []
    last = Fraction(0)

    def small() -> Iterator[np.ndarray]:
        nonlocal last
        for frame in frames_of(path, threads=0):
            shown[:] = shown or [frame]
            read.append(None if frame.pts is None else frame.pts * (frame.time_base or Fraction(0)))
            last = (frame.duration or 0) * (frame.time_base or Fraction(0))
            if frame.is_corrupt:
                damaged.append(len(read) - 1)
            yield reformatter.reformat(frame, *SMALL, format="gray").to_ndarray()

    cuts = list(find_cuts(small()))
    if not read:
        raise UserError(f"video '{path}' holds no frame that can be decoded; copy it again")
    losses = [f"{counted(len(damaged), 'frame')} damaged in the input, the first is {damaged[0]}"] if damaged else []
    if lost := damage(path, len(read)):
        _log.warning("%s; the %d frames that can be read are used", lost, len(read))
        losses.append(f"the end of the input: it breaks off after {counted(len(read), 'frame')}")
    with open_video(path) as container:
        film = film_of(picture_stream(container), shown[0], str(path), read, last)
    return film._replace(cuts=cuts, losses=[*losses, *film.losses])


def film_of(
    stream: VideoStream, frame: av.VideoFrame, name: str, read: Sequence[Fraction | None], last: Fraction | int
) -> Film:
    """Returns what a stream and its first frame say of a film.

    Args:
        stream: of the pictures.
        frame: the first.
        name: the film's, for messages.
        read: the time of each frame in seconds, None where it has none.
        last: duration of the last frame in seconds; 0 if unknown.

    Raises:
        UserError: the matrix of its colours is unknown.
    """
    context, base = stream.codec_context, stream.time_base or Fraction(1, 90000)
    rate = stream.average_rate or Fraction(UNTAGGED_RATE)
    times, losses = [time for time in read if time is not None], []
    if len(times) < len(read):
        times, base = [index / rate for index in range(len(read))], 1 / rate
        losses.append(f"the frames' times: the input has none, {float(rate):g} frames per second are assumed")
    ticks = _ascending([round(time / base) for time in times])
    steps = np.diff(ticks)
    last_ticks = round(last / base) or round(float(np.median(steps)) if len(steps) else 1 / rate / base)
    pixel_format, turned = frame.format.name, frame.rotation % 180 != 0
    if len(av.VideoFormat(pixel_format).components) in (2, 4):
        losses.append("transparency (alpha)")
    is_full = is_full_range(frame) and not is_rgb(pixel_format)
    try:
        colors = Colors(_tag(frame), int(context.color_primaries), int(context.color_trc), is_full)
    except ValueError as error:
        raise UserError(f"video '{name}' cannot be read: {error}") from None
    aspect = stream.sample_aspect_ratio or Fraction(1)
    return Film(
        height=frame.width if turned else frame.height,
        width=frame.height if turned else frame.width,
        depth=depth_of(pixel_format),
        colors=colors,
        aspect=(aspect.denominator, aspect.numerator) if turned else (aspect.numerator, aspect.denominator),
        times=ticks,
        last=max(last_ticks, 1),
        time_base=(base.numerator, base.denominator),
        cuts=[],
        pixel_format=pixel_format,
        losses=losses,
    )


def _scan_frames(source: Source, fps: Fraction, find_cuts: Callable[[Iterable[np.ndarray]], Iterable[int]]) -> Film:
    size: tuple[int, int] | None = None
    has_alpha = False

    def small() -> Iterator[np.ndarray]:
        nonlocal size, has_alpha
        for file in source.frames:
            data = file.read_bytes()
            pixels = images.decode(data, f"frame '{file}'")
            has_alpha |= data[:4] == b"\x89PNG" and data[25] in (4, 6)
            size = size or (pixels.shape[0], pixels.shape[1])
            if pixels.shape[:2] != size:
                one = f"frame '{file}' is {pixels.shape[0]} x {pixels.shape[1]}"
                raise UserError(f"{one}, but '{source.frames[0].name}' is {size[0]} x {size[1]}; one film has one size")
            yield cv2.cvtColor(cv2.resize(pixels, SMALL, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)

    cuts = list(find_cuts(small()))
    assert size is not None, "a source has frames"
    colors, times = (
        Colors(0, 1, 13),
        [index * fps.denominator for index in range(len(source.frames))],
    )
    losses = ["transparency (alpha)"] if has_alpha else []
    base = 1, fps.numerator
    return Film(*size, 8, colors, (1, 1), times, fps.denominator, base, cuts, "", losses)


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
            return images.decode(file.read_bytes(), f"frame '{file}'")
        if self._next is None or index < self._next:
            self._frames, self._next = frames_of(self.source.path, threads=0), 0
        for frame in self._frames:
            self._next += 1
            if self._next > index:
                return pixels_of(frame, self.source.path, self._reformatter)
        raise ValueError(f"video '{self.source.path}' ends after {self._next} frames; was it changed?")


def _offset(read: Callable[[int], np.ndarray], start: int) -> Callable[[int], np.ndarray]:
    return lambda index: read(start + index)


def _tag(frame: av.VideoFrame) -> int:
    """Returns the matrix by which the output is tagged: the stream's own, or the one that is assumed; 0 of RGB."""
    matrix = matrix_of(frame)
    if is_rgb(frame.format.name):
        return 0
    is_tagged = int(frame.colorspace) not in (0, UNSPECIFIED)
    return int(frame.colorspace) if is_tagged else BT601_525 if matrix == BT601 and frame.height != 576 else matrix


def _ascending(ticks: list[int]) -> list[int]:
    """Returns the times with those that do not ascend moved behind the frame before them."""
    for index in range(1, len(ticks)):
        ticks[index] = max(ticks[index], ticks[index - 1] + 1)
    return ticks


def to_record(film: Film) -> dict[str, Any]:
    """Returns a film as JSON holds it."""
    return film._asdict()


def from_record(record: dict[str, Any]) -> Film:
    """Returns the film of :func:`to_record`."""
    pairs = {key: tuple(record[key]) for key in ("aspect", "time_base")}
    return Film(**{**record, **pairs, "colors": Colors(*record["colors"])})


def frame_names(source: Source) -> Callable[[int], str]:
    """Returns the function that names a frame: of image files their stems, of videos eight digits from 0."""
    if source.frames:
        return lambda index: source.frames[index].stem
    return lambda index: f"{index:08d}"
