"""One video to a folder of JPEG frames."""

import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import cv2
import numpy as np

from vsr.data.video.reader import VideoInfo, damage, decode, probe

JPEG_QUALITY = 95


class Extracted(NamedTuple):
    """The result of extracting a video."""

    info: VideoInfo
    notes: list[str]  # remarks that are no errors


def extract_clip(
    video: Path,
    folder: Path,
    max_side: int | None = None,
    accept_short: bool = False,
    on_frame: Callable[[], object] = lambda: None,
) -> Extracted:
    """Writes the frames of a video as ``folder``/000000.jpg, …; the folder gets its name when it is complete.

    Args:
        video: the file.
        folder: the folder to create.
        max_side: the largest height or width of the frames; larger frames are shrunk.
        accept_short: accepts a damaged video, as far as it can be decoded.
        on_frame: called after each frame.

    Raises:
        FileNotFoundError: there is no such video.
        ValueError: it cannot be opened, holds no frames, or is damaged.
        OSError: the disk is full.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    times: list[float] = []
    size = 0, 0
    try:
        for frame, time in decode(video):
            image = fit(frame, max_side)
            size = image.shape[:2]
            (partial / f"{len(times):06d}.jpg").write_bytes(encode_jpeg(image))
            times.append(time)
            on_frame()
        if not times:
            raise ValueError(f"no frame of video '{video}' can be decoded; copy it again")
        problem = damage(video, len(times))
        if problem and not accept_short:
            raise ValueError(f"{problem}; --accept-short takes the frames there are")
    except BaseException as error:
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(partial)  # a failed write names no file
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(folder)
    notes = [note for note in (problem, _uneven_rate(video, times)) if note]
    return Extracted(VideoInfo(len(times), probe(video).fps, size[1], size[0]), notes)


def fit(frame: np.ndarray, max_side: int | None) -> np.ndarray:
    """Returns a frame shrunk, if need be, until its longer side is ``max_side``."""
    h, w = frame.shape[:2]
    if max_side is None or max(h, w) <= max_side:
        return frame
    new_w, new_h = (max(round(length * max_side / max(h, w)), 1) for length in (w, h))
    return cv2.resize(frame, (new_w, new_h), interpolation=cv2.INTER_AREA)


def encode_jpeg(frame: np.ndarray) -> bytes:
    """Returns an RGB frame as a JPEG file."""
    is_encoded, data = cv2.imencode(
        ".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    assert is_encoded, f"a frame of {frame.shape} cannot be encoded"
    return data.tobytes()


def _uneven_rate(video: Path, times: list[float]) -> str | None:
    """Returns a note if the frames, whose times are in seconds, are not equally spaced."""
    steps = np.diff(times) * 1000
    if len(steps) == 0 or steps.min() < 0 or steps.max() <= 0:
        return None  # one frame, or no times
    if steps.max() <= 1.5 * median(steps) and steps.min() >= median(steps) / 1.5:
        return None
    return (
        f"the frame rate of '{video}' varies, {steps.min():.0f} to {steps.max():.0f} ms between frames: frame_interval "
        "counts frames, not time"
    )
