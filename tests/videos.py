"""Small videos, and data sets in HumanEva's and Charades's shape, for tests."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from synthetic import moving_texture

CODES = {".avi": "MJPG", ".mp4": "mp4v"}


def make_video(file: Path, num_frames: int = 12, size: tuple[int, int] = (48, 64), fps: float = 25) -> Path:
    """Writes a video whose frame k has the grey level 8 * k + 20; returns its path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*CODES[file.suffix]), fps, size[::-1])
    assert writer.isOpened()
    for number in range(num_frames):
        writer.write(np.full((*size, 3), min(8 * number + 20, 255), np.uint8))
    writer.release()
    return file


def noise(num_frames: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Returns frames of large random squares, (n, h, w, 3) uint8 RGB."""
    small = np.random.default_rng(0).integers(0, 256, (num_frames, size[0] // 8, size[1] // 8, 3), np.uint8)
    return small.repeat(8, 1).repeat(8, 2)


def write_video(
    file: Path,
    frames: np.ndarray,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    container: dict[str, str] | None = None,
    **tags: Any,
) -> Path:
    """Writes RGB frames at 25 frames per second, or at ``times`` in milliseconds; returns the path."""
    with av.open(str(file), "w", options=container or {}) as target:
        stream = target.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixel_format
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        stream.codec_context.time_base = Fraction(1, 25 if times is None else 1000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number if times is None else times[number], stream.codec_context.time_base
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return file


def levels(folder: Path) -> list[float]:
    """Returns the grey levels of a clip's frames, by name."""
    return [cv2.imread(str(file)).mean() for file in sorted(folder.iterdir())]


def make_clip(
    folder: Path, num_frames: int, size: tuple[int, int] = (24, 32), first: int = 0, digits: int = 6, prefix: str = ""
) -> Path:
    """Writes frames of one colour, in which frame k can be told from all others; returns the folder."""
    folder.mkdir(parents=True)
    for number in range(num_frames):
        write_frame(folder / f"{prefix}{first + number:0{digits}d}.png", number, size)
    return folder


def write_frame(file: Path, number: int, size: tuple[int, int] = (24, 32)) -> None:
    """Writes a frame of which :func:`number_of` finds the number, at any size."""
    colour = (7, number // 16 * 16, number % 16 * 16)  # BGR; PNG keeps it exactly, whatever the suffix
    is_encoded, data = cv2.imencode(".png", np.full((*size, 3), colour, np.uint8))
    assert is_encoded
    file.write_bytes(data.tobytes())


def number_of(frame: np.ndarray) -> int:
    """Returns which frame of :func:`make_clip` this is; (3, h, w) RGB."""
    red, green, blue = (int(plane[0, 0]) for plane in np.asarray(frame))
    assert blue == 7
    return green + red // 16


def make_moving_clip(folder: Path, num_frames: int, size: tuple[int, int] = (64, 64)) -> Path:
    """Writes frames of a texture that moves with constant velocity; returns the folder."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(moving_texture(num_frames, size, 5)):
        cv2.imwrite(str(folder / f"{number:06d}.png"), frame)
    return folder


def make_humaneva(root: Path, num_frames: int = 12, size: tuple[int, int] = (16, 24)) -> Path:
    """Writes three short clips and their lists, two to train on and one to test; returns the root."""
    clips = {"train": ["S1_Box_1_(C1)", "S1_Jog_1_(C2)"], "test": ["S2_Box_2_(C1)"]}
    for part, names in clips.items():
        for name in names:
            make_moving_clip(root / "image" / name, num_frames, size)
        rows = [f"{name},{name.split('_')[1]},{name[-3:-1]}" for name in names]
        (root / f"{part}_list.csv").write_text("\n".join(["clip,action,camera", *rows]) + "\n")
    return root


def warp(source: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Returns ``source`` sampled at x + flow(x), bilinear; beyond the border its last pixel goes on.

    Args:
        source: (h, w, c) or (h, w).
        flow: (2, h, w) x then y.
    """
    h, w = flow.shape[1:]
    y, x = np.mgrid[:h, :w].astype(np.float32)
    return cv2.remap(source, x + flow[0], y + flow[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
