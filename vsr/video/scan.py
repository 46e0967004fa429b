"""The first pass over a film: frames, times, cuts, damage."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vsr.data.sources import images
from vsr.data.video.colors import BT601, BT601_525, UNSPECIFIED, Colors, depth_of, is_full_range, is_rgb, matrix_of
from vsr.data.video.reader import damage, frames_of, note_untagged, open_video, picture_stream
from vsr.data.video.side_data import light_of, not_kept
from vsr.data.video.truncation import missing_bytes
from vsr.utils.errors import UserError
from vsr.utils.files import size_text
from vsr.utils.log import counted
from vsr.video.film import UNTAGGED_RATE, Film
from vsr.video.sources import Source

SMALL = 80, 45  # width and height of the frames that cuts are found in

_log = logging.getLogger(__name__)


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
    failed: list[FFmpegError] = []
    carried: set[str] = set()
    last = Fraction(0)

    def small() -> Iterator[np.ndarray]:
        nonlocal last
        for frame in frames_of(path, 0, failed):
            shown[:] = shown or [frame]
            read.append(None if frame.pts is None else frame.pts * (frame.time_base or Fraction(0)))
            last = (frame.duration or 0) * (frame.time_base or Fraction(0))
            if frame.is_corrupt:
                damaged.append(len(read) - 1)
            carried.update(not_kept(frame))
            yield reformatter.reformat(frame, *SMALL, format="gray").to_ndarray()

    cuts = list(find_cuts(small()))
    if not read:
        raise UserError(f"video '{path}' holds no frame that can be decoded; copy it again")
    losses = [f"{counted(len(damaged), 'frame')} damaged in the input, the first is {damaged[0]}"] if damaged else []
    if failed:
        losses.append(f"{counted(len(failed), 'packet')} of the input that cannot be decoded ({failed[0].strerror})")
    lost, missing = damage(path, len(read)), missing_bytes(path)
    if lost or missing:
        lost = lost or f"video '{path}' is cut off: {size_text(missing)} are missing at its end"
        _log.warning("%s; the %d frames that can be read are used", lost, len(read))
        losses.append(f"the end of the input: it breaks off after {counted(len(read), 'frame')}")
    losses += sorted(carried)
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
        note_untagged(frame, name)
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
        light=light_of(frame),
    )


def _scan_frames(source: Source, fps: Fraction, find_cuts: Callable[[Iterable[np.ndarray]], Iterable[int]]) -> Film:
    size: tuple[int, int] | None = None
    has_alpha, depth = False, 8

    def small() -> Iterator[np.ndarray]:
        nonlocal size, has_alpha, depth
        for file in source.frames:
            data = file.read_bytes()
            pixels = images.decode(data, f"frame '{file}'", keeps_depth=True)
            if pixels.dtype == np.uint16:
                depth, pixels = 16, (pixels >> 8).astype(np.uint8)
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
    return Film(*size, depth, colors, (1, 1), times, fps.denominator, base, cuts, "", losses)


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
