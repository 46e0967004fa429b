"""Video files as a frame store, decoded with PyAV."""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from vsr.data.lists.clip_lists import is_video
from vsr.data.sources.base import Crop, natural_order
from vsr.data.sources.images import cut

# By the code in the stream (ITU-T H.273). PyAV reads it itself only since version 17.
MATRICES = {1: Colorspace.ITU709, 4: Colorspace.FCC, 7: Colorspace.SMPTE240M, 9: 9}  # 9 is BT.2020
UNTAGGED = Colorspace.ITU601  # as all other readers do, whatever the size
# One thread: a forked worker that frees its parent's decoder would wait for threads that it does not have.
NO_THREADS = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}

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
    with _open(video) as container:
        stream = container.streams.video[0]
        fps = float(stream.average_rate or 0)
        known, total = stream.duration, container.duration
        seconds = float(known * stream.time_base) if known and stream.time_base else (total or 0) / av.time_base
        count = stream.frames or round(seconds * fps)
        return VideoInfo(max(count, 0), fps, stream.codec_context.width, stream.codec_context.height)


def decode(video: Path) -> Iterator[tuple[np.ndarray, float]]:
    """Yields each frame, (h, w, 3) uint8 RGB, upright, and its time in seconds. Undecodable frames are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the video cannot be opened, or its frames change their size.
    """
    to_rgb, size = VideoReformatter(), None
    for frame in _frames(video):
        size = size or (frame.height, frame.width)
        if size != (frame.height, frame.width):
            now = (frame.height, frame.width)
            raise ValueError(f"the frames of video '{video}' change from {size} to {now} (h, w)")
        is_full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        pixels = to_rgb.reformat(
            frame,
            format="rgb24",
            src_colorspace=MATRICES.get(int(frame.colorspace), UNTAGGED),
            dst_colorspace=UNTAGGED,
            src_color_range=ColorRange.JPEG if is_full else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            **NO_THREADS,
        ).to_ndarray()
        yield np.rot90(pixels, frame.rotation // 90) if frame.rotation else pixels, float(frame.time or 0)


def damage(video: Path, decoded: int) -> str | None:
    """Returns how many frames a video lacks, as a message; None if it is sound.

    A header's count is no proof: edit lists hide frames, and at a variable rate it is an estimate. A video is damaged
    if it holds packets that cannot be decoded, or fewer packets than the header says and ends before the header's time.
    """
    count, fps, *_ = probe(video)
    few = max(2, count / 100)
    if count - decoded <= few:
        return None
    with _open(video) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in _packets(container, stream) if packet.dts is not None or packet.size]
        shown = sum(not packet.is_discard for packet in packets)
        times = sorted(float(packet.pts * packet.time_base) for packet in packets if packet.pts is not None)
    step = max(np.diff(times), default=0)  # the last frame may last as long
    is_cut = len(packets) < count and bool(times) and times[-1] + step + few / fps < count / fps
    if shown - decoded > few or is_cut:
        return f"video '{video}' ends after {decoded} frames, its header says {count}: it is damaged. Copy it again"
    return None


class VideoStore:
    """A video, or a folder of videos: ROOT/CLIP.mp4 is clip CLIP, its frames are named 00000000, 00000001 and so on.

    Frames are decoded in order; an earlier frame is decoded from the video's start, since seeking is inexact in many
    files.

    Raises:
        ValueError: two videos have the same name.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        found = filter(_is_video_file, root.iterdir() if root.is_dir() else [root])
        files = sorted(found, key=lambda file: natural_order(file.stem))
        self.files = {file.stem: file for file in files}
        if len(self.files) < len(files):
            raise ValueError(f"'{root}' holds videos that differ in their suffix only; rename one")
        self._readers: dict[int, _Reader] = {}  # by process: a position in a file is shared after a fork

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return VideoStore, (self.root,)

    def clips(self) -> list[str]:
        """Returns the videos' names without suffix, sorted."""
        return list(self.files)

    def frames(self, clip: str) -> list[str]:
        """Returns the names of a video's frames."""
        file = self.files.get(clip)
        return [f"{number:08d}" for number in range(_count_frames(file, file.stat().st_mtime_ns))] if file else []

    def has(self, key: str) -> bool:
        """Returns whether there is a frame of this key."""
        clip, _, frame = key.rpartition("/")
        return frame in self.frames(clip)

    def size(self, key: str) -> tuple[int, int]:
        """Returns a frame's height and width."""
        return self.read(key).shape[:2]

    def read(self, key: str, crop: Crop | None = None) -> np.ndarray:
        """Returns a frame or a rectangle of it: (h, w, 3) uint8 RGB."""
        clip, _, frame = key.rpartition("/")
        if clip not in self.files or not frame.isdecimal():
            raise FileNotFoundError(f"'{self.root}' has no frame '{key}'")
        pixels = self._readers.setdefault(os.getpid(), _Reader()).read(self.files[clip], int(frame))
        return cut(pixels, crop, f"{self.files[clip]}, frame {frame}")


class _Reader:
    """Decodes one video at a time, from its start; for several threads."""

    def __init__(self) -> None:
        self.file: Path | None = None
        self.frames: Iterator[tuple[np.ndarray, float]] = iter(())
        self.position = 0  # of the next frame
        self.lock = Lock()

    def read(self, file: Path, number: int) -> np.ndarray:
        """Returns a frame, (h, w, 3) uint8 RGB."""
        with self.lock:
            if file != self.file or number < self.position:
                self.file, self.frames, self.position = file, decode(file), 0
            for frame, _ in self.frames:
                self.position += 1
                if self.position > number:
                    return frame
        raise FileNotFoundError(f"video '{file}' has no frame {number}: it ends after {self.position}")


def holds_videos(root: Path) -> bool:
    """Returns whether a root is a video, or a folder with videos and without folders that hold something."""
    if not root.is_dir():
        return _is_video_file(root)
    videos = [entry.name for entry in root.iterdir() if _is_video_file(entry)]
    has_folders = any(entry.name[0] != "." and entry.is_dir() and any(entry.iterdir()) for entry in root.iterdir())
    if videos and has_folders:
        text = "'%s' holds videos and folders: the %d videos, such as %s, are ignored"
        _log.warning(text, root, len(videos), min(videos))
    return bool(videos) and not has_folders


@cache
def _count_frames(file: Path, modified: int) -> int:
    """Returns the number of frames by decoding them; headers are often wrong."""
    _log.info("counting the frames of '%s'", file)
    decoded = sum(1 for _ in _frames(file))
    if problem := damage(file, decoded):
        _log.warning("%s; the frames that can be decoded are used", problem)
    return decoded


def _frames(video: Path) -> Iterator[av.VideoFrame]:
    with _open(video) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # see NO_THREADS
        for packet in _packets(container, stream):
            with suppress(FFmpegError):  # damaged; the frames after it may be intact
                frames = packet.decode()
                yield from frames


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    with suppress(FFmpegError):  # the file is cut off
        yield from container.demux(stream)


def _open(video: Path) -> InputContainer:
    if not video.is_file():
        raise FileNotFoundError(f"video '{video}' does not exist")
    try:
        container = av.open(str(video.absolute()), metadata_errors="replace")  # of a:b.mp4, a: would be a protocol
    except FFmpegError:
        found = f"{video.stat().st_size} bytes that are damaged, truncated, or no video"
        raise ValueError(f"video '{video}' cannot be opened: {found}; copy it again") from None
    if not container.streams.video:
        raise ValueError(f"video '{video}' cannot be opened: it holds no pictures")
    return container


def _is_video_file(file: Path) -> bool:
    return is_video(file.name) and not file.name.startswith(".") and file.is_file()
