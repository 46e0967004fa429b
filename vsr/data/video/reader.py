"""Reads video files with PyAV: frames in order, upright, deinterlaced, in their own colours and at their own times."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import EOFError as NoMoreFrames
from av.error import FFmpegError
from av.filter import Graph
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vsr.data.lists.clip_lists import is_video
from vsr.data.sources.base import IMAGE_SUFFIXES
from vsr.data.video.colors import BT709, PYAV, UNSPECIFIED, is_rgb, matrix_of, to_rgb

ANY_TEXT: dict[str, Any] = {} if PYAV >= 19 else {"metadata_errors": "replace"}  # PyAV 19 always reads any text

_log = logging.getLogger(__name__)


class VideoInfo(NamedTuple):
    """The header of a video."""

    num_frames: int  # in Matroska and MPEG-TS an estimate, duration times rate
    fps: float  # 0 if unknown
    width: int
    height: int


def probe(video: Path) -> VideoInfo:
    """Returns the header of a video, which may be wrong.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be opened as a video.
    """
    with open_video(video) as container:
        stream = picture_stream(container)
        fps = float(stream.average_rate or 0)
        known, total = stream.duration, container.duration
        seconds = float(known * stream.time_base) if known and stream.time_base else (total or 0) / av.time_base
        count = stream.frames or round(seconds * fps)
        return VideoInfo(max(count, 0), fps, stream.codec_context.width, stream.codec_context.height)


def decode(video: Path) -> Iterator[tuple[np.ndarray, float]]:
    """Yields each frame, (h, w, 3) uint8 RGB, and its time in seconds. Undecodable frames are left out.

    Frames of more than 8 bits are rounded to 8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the video cannot be opened, its frames change their size, or their matrix is unknown.
    """
    reformatter = VideoReformatter()
    for frame in frames_of(video):
        pixels = pixels_of(frame, video, reformatter)
        if pixels.dtype == np.uint16:
            pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
        yield pixels, float(frame.time or 0)


def pixels_of(frame: av.VideoFrame, video: Path, reformatter: VideoReformatter) -> np.ndarray:
    """Returns a frame upright, (h, w, 3) RGB: uint8, or uint16 (white is 65535) of more than 8 bits.

    Raises:
        ValueError: its matrix is unknown.
    """
    try:
        pixels = to_rgb(frame, reformatter)
    except ValueError as error:
        raise ValueError(f"video '{video}' cannot be converted to RGB: {error}") from None
    return np.rot90(pixels, frame.rotation // 90) if frame.rotation else pixels


def frames_of(video: Path, threads: int = 1, failed: list[FFmpegError] | None = None) -> Iterator[av.VideoFrame]:
    """Yields each decoded frame; interlaced ones are deinterlaced. Undecodable frames are left out.

    Args:
        video: the file.
        threads: of the decoder, 0 is one per core. Only 1 may be used in a process that forks.
        failed: gets the error of each packet that cannot be decoded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the video cannot be opened, or its frames change their size.
    """
    size = None
    with open_video(video) as container:
        for frame in deinterlaced(decoded(container, threads, failed), str(video)):
            size = size or (frame.height, frame.width)
            if size != (frame.height, frame.width):
                now = (frame.height, frame.width)
                raise ValueError(f"the frames of video '{video}' change from {size} to {now} (h, w)")
            if matrix_of(frame) == BT709:
                note_untagged(frame, str(video))
            yield frame


def note_untagged(frame: av.VideoFrame, name: str) -> None:
    """Logs the matrix that is assumed for a video without colour tags, once."""
    is_grey = frame.format.name.startswith(("gray", "ya"))
    if frame.colorspace == UNSPECIFIED and not is_rgb(frame.format.name) and not is_grey:
        matrix = "BT.709" if matrix_of(frame) == BT709 else "BT.601"
        _note(f"video '{name}' has no colour tags: read as {matrix}, since it has {frame.height} lines")


def deinterlaced(frames: Iterator[av.VideoFrame], name: str) -> Iterator[av.VideoFrame]:
    """Yields the frames; from the first interlaced one on, bwdif (w3fdif and yadif) interpolates the second field."""
    filters = None
    for frame in frames:
        if filters is None and not frame.interlaced_frame:
            yield frame
            continue
        if filters is None:
            _note(f"video '{name}' is interlaced: frames are deinterlaced (bwdif)")
            filters = _bwdif(frame)
        filters.vpush(frame)
        yield from _pulled(filters)
    if filters is not None:
        filters.vpush(None)
        yield from _pulled(filters)


def decoded(
    container: InputContainer, threads: int, failed: list[FFmpegError] | None = None
) -> Iterator[av.VideoFrame]:
    """Yields the frames of an opened video; undecodable ones are left out. See frames_of."""
    stream = picture_stream(container)
    stream.codec_context.thread_count = threads  # see NO_THREADS in colors.py
    if threads != 1:
        stream.codec_context.thread_type = "AUTO"
    for packet in packets_of(container, stream):
        try:
            frames = packet.decode()
        except FFmpegError as error:  # damaged; the frames after it may be intact
            if failed is not None:
                failed.append(error)
            continue
        yield from frames


def damage(video: Path, num_decoded: int) -> str | None:
    """Returns how many frames a video lacks, as a message; None if it is sound.

    A header's count is no proof: edit lists hide frames, and at a variable rate it is an estimate. A video is damaged
    if it holds packets that cannot be decoded, or fewer packets than the header says and ends before the header's time.
    """
    count, fps, *_ = probe(video)
    few = max(2, count / 100)
    if count - num_decoded <= few:
        return None
    with open_video(video) as container:
        stream = picture_stream(container)
        packets = [packet for packet in packets_of(container, stream) if packet.dts is not None or packet.size]
        shown = sum(not packet.is_discard for packet in packets)
        times = sorted(float(packet.pts * packet.time_base) for packet in packets if packet.pts is not None)
    step = max(np.diff(times), default=0)  # the last frame may last as long
    is_cut = len(packets) < count and bool(times) and times[-1] + step + few / fps < count / fps
    if shown - num_decoded > few or is_cut:
        return f"video '{video}' ends after {num_decoded} frames, its header says {count}: it is damaged. Copy it again"
    return None


def is_video_file(file: Path) -> bool:
    """Returns whether a file is named like a video, or FFmpeg reads it as one. Images are none."""
    if file.name.startswith(".") or file.suffix.lower() in IMAGE_SUFFIXES or not file.is_file():
        return False
    status = file.stat()
    return is_video(file.name) or _has_pictures(file, status.st_size, status.st_mtime_ns)


def open_video(video: Path) -> InputContainer:
    """Returns an opened video.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be opened, or holds no pictures.
    """
    if not video.is_file():
        raise FileNotFoundError(f"video '{video}' does not exist")
    try:
        container = av.open(str(video.absolute()), **ANY_TEXT)  # of a:b.mp4, a: would be a protocol
    except FFmpegError:
        found = f"{video.stat().st_size} bytes that are damaged, truncated, or no video"
        raise ValueError(f"video '{video}' cannot be opened: {found}; copy it again") from None
    if not container.streams.video:
        container.close()
        raise ValueError(f"video '{video}' cannot be opened: it holds no pictures")
    return container


def picture_stream(container: InputContainer) -> VideoStream:
    """Returns the stream that is shown; others may be covers."""
    return next((stream for stream in container.streams.video if not _is_cover(stream)), container.streams.video[0])


def packets_of(container: InputContainer, *streams: Any) -> Iterator[av.Packet]:
    """Yields the packets of some streams, or of all, up to the file's end or the place where it is cut off."""
    with suppress(FFmpegError):
        yield from container.demux(*streams)


def _is_cover(stream: VideoStream) -> bool:
    return "attached_pic" in str(stream.disposition)


def _bwdif(frame: av.VideoFrame) -> Graph:
    graph = Graph()
    with suppress(AttributeError):  # PyAV before 16
        graph.threads = 1
    size = {"width": frame.width, "height": frame.height, "format": frame.format}
    source = graph.add_buffer(**size, time_base=frame.time_base or Fraction(1, 1000))
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _pulled(graph: Graph) -> Iterator[av.VideoFrame]:
    with suppress(BlockingIOError, NoMoreFrames):
        while True:
            yield graph.vpull()


@cache
def _note(text: str) -> None:
    """Logs a line once, though a test reads a video several times."""
    _log.info(text)


@cache
def _has_pictures(file: Path, size: int, modified: int) -> bool:
    try:
        with open_video(file) as container:
            is_image = container.format.name in ("image2", "tty") or container.format.name.endswith("_pipe")
            return not is_image and picture_stream(container).codec_context.width > 0
    except ValueError:
        return False
