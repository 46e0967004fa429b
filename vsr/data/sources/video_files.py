"""Videos to folders of frames, with OpenCV's decoder. A header's claims are checked by decoding."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import cv2
import numpy as np

JPEG_QUALITY = 95


class VideoInfo(NamedTuple):
    """Size and rate of a video."""

    num_frames: int  # 0 where the header does not say
    fps: float  # frames per second, 0 likewise
    width: int
    height: int


class Extracted(NamedTuple):
    """What decoding a video has shown."""

    info: VideoInfo
    notes: list[str]  # what a user should know although it is no error


def probe(video: Path) -> VideoInfo:
    """Returns what a video's header claims, which may be wrong.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be opened as a video.
    """
    capture = _open(video)
    try:
        count, fps, w, h = (
            max(capture.get(field), 0)
            for field in (
                cv2.CAP_PROP_FRAME_COUNT,
                cv2.CAP_PROP_FPS,
                cv2.CAP_PROP_FRAME_WIDTH,
                cv2.CAP_PROP_FRAME_HEIGHT,
            )
        )
    finally:
        capture.release()
    return VideoInfo(int(count), fps, int(w), int(h))


def decode_video(video: Path) -> Iterator[tuple[np.ndarray, float]]:
    """Yields each frame, (h, w, 3) uint8 BGR, and its time in milliseconds, up to the last that can be decoded.

    Raises:
        ValueError: the video cannot be opened, or its frames change their size.
    """
    capture = _open(video)
    shape = None
    try:
        while True:
            is_read, frame = capture.read()
            if not is_read:
                return
            shape = shape or frame.shape
            if frame.shape != shape:
                raise ValueError(f"the frames of video '{video}' change from {shape[:2]} to {frame.shape[:2]} (h, w)")
            yield frame, capture.get(cv2.CAP_PROP_POS_MSEC)
    finally:
        capture.release()


def extract_clip(
    video: Path,
    folder: Path,
    max_side: int | None = None,
    accept_short: bool = False,
    on_frame: Callable[[], object] = lambda: None,
) -> Extracted:
    """Writes a video's frames as ``folder``/000000.jpg, …; the folder appears when it is complete.

    Args:
        video: what is read.
        folder: what is made.
        max_side: shrinks frames whose longer side is longer, in pixels.
        accept_short: takes what can be decoded of a video that ends before its header says.
        on_frame: called after each frame.

    Raises:
        FileNotFoundError: there is no such video.
        ValueError: it cannot be opened, holds no frames, or ends early; or frames vanished while others were written.
        OSError: the disk is full.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    times: list[float] = []
    size = 0, 0
    try:
        for frame, time in decode_video(video):
            image = fit(frame, max_side)
            size = image.shape[:2]
            (partial / f"{len(times):06d}.jpg").write_bytes(encode_jpeg(image))
            times.append(time)
            on_frame()
        notes = _check_count(video, len(times), probe(video).num_frames, accept_short)
        num_files = sum(1 for _ in partial.glob("[!.]*.jpg"))
        if num_files != len(times):
            raise ValueError(
                f"'{partial}' holds {num_files} of the {len(times)} frames that were written: something else changes "
                "it, perhaps another preparation; see that none is running, then start again"
            )
    except BaseException as error:
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(partial)  # a failed write names no file
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(folder)
    fps = probe(video).fps
    return Extracted(VideoInfo(len(times), fps, size[1], size[0]), notes + _check_rate(video, times))


def fit(frame: np.ndarray, max_side: int | None) -> np.ndarray:
    """Returns a frame shrunk, if need be, until its longer side is ``max_side``."""
    h, w = frame.shape[:2]
    if max_side is None or max(h, w) <= max_side:
        return frame
    new_w, new_h = (max(round(length * max_side / max(h, w)), 1) for length in (w, h))
    return cv2.resize(frame, (new_w, new_h), interpolation=cv2.INTER_AREA)


def encode_jpeg(frame: np.ndarray) -> bytes:
    """Returns a BGR frame as a JPEG file."""
    is_encoded, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert is_encoded, f"a frame of {frame.shape} cannot be encoded"
    return data.tobytes()


def _open(video: Path) -> cv2.VideoCapture:
    if not is_utf8(str(video)):  # OpenCV would end the process
        raise ValueError(f"video {str(video)!a} has a name that is not UTF-8; rename it")
    if not video.is_file():
        raise FileNotFoundError(f"video '{video}' does not exist")
    capture = cv2.VideoCapture(str(video))
    if not capture.isOpened():
        size = video.stat().st_size
        raise ValueError(
            f"video '{video}' cannot be opened: {size} bytes that are damaged, cut off, or no video; copy it again"
        )
    return capture


def is_utf8(name: str) -> bool:
    """Returns whether a file's name can be written to a list; Linux allows any bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def ends_early(decoded: int, claimed: int) -> bool:
    """Returns whether a video lacks more of the frames that its header promises than headers are wrong by."""
    return claimed - decoded > max(2, claimed / 100)


def _check_count(video: Path, decoded: int, claimed: int, accept_short: bool) -> list[str]:
    """Returns a note if the header is wrong; raises if so many frames are missing that the file is likely damaged."""
    if decoded == 0:
        raise ValueError(f"no frame of video '{video}' can be decoded; copy it again")
    if ends_early(decoded, claimed) and not accept_short:
        raise ValueError(
            f"video '{video}' ends after {decoded} frames, its header says {claimed}: it is damaged, or its header is "
            "wrong. Copy it again; --accept-short takes the frames there are"
        )
    return [] if claimed == decoded else [f"'{video}' has {decoded} frames, its header says {claimed}"]


def _check_rate(video: Path, times: list[float]) -> list[str]:
    """Returns a note if the frames are not equally spaced in time."""
    steps = np.diff(times)
    if len(steps) == 0 or steps.min() < 0 or steps.max() <= 0:
        return []  # one frame, or no times
    if steps.max() <= 1.5 * median(steps) and steps.min() >= median(steps) / 1.5:
        return []
    return [
        f"the frame rate of '{video}' varies, {steps.min():.0f} to {steps.max():.0f} ms between frames: frame_interval "
        "counts frames, not time"
    ]
