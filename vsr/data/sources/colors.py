"""YUV to RGB and back, by the matrix and the range of a video."""

from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

BT601, BT709, BT2020 = 5, 1, 9  # matrices, by their codes in ITU-T H.273; 6 is BT.601 as well
UNSPECIFIED = 2
HDR = {16: "PQ", 18: "HLG"}  # transfer functions
HD_LINES = 720  # frames of so many lines are BT.709 if they are untagged
MATRICES = {BT709: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601}
MATRICES |= {7: Colorspace.SMPTE240M, BT2020: 9}  # PyAV names BT.2020 only since version 17
# swscale's bicubic, full chroma interpolation and accurate rounding. The other settings are up to 4 levels too dark.
ACCURATE = 4 | 0x2000 | 0x40000
# One thread: a forked worker that frees its parent's converter would wait for threads that it does not have.
NO_THREADS = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


class Colors(NamedTuple):
    """How the pixels of a video are stored; codes of ITU-T H.273.

    Args:
        matrix: YUV from RGB; ``BT709``, ``BT601`` and the others in MATRICES.
        primaries: the colours of R, G and B.
        transfer: the transfer function.
        is_full: whether black and white are 0 and 255 instead of 16 and 235.
    """

    matrix: int
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    is_full: bool = False


def is_rgb(pixel_format: str) -> bool:
    """Returns whether a pixel format of FFmpeg's has no matrix: RGB or a palette."""
    return av.VideoFormat(pixel_format).is_rgb or pixel_format == "pal8"


def depth_of(pixel_format: str) -> int:
    """Returns the bits of a component of a pixel format."""
    return max(component.bits for component in av.VideoFormat(pixel_format).components)


def default_matrix(lines: int) -> int:
    """Returns the matrix of an untagged video."""
    return BT709 if lines >= HD_LINES else BT601


def matrix_of(frame: av.VideoFrame) -> int:
    """Returns the matrix of a frame; an untagged one's is BT.709 from 720 lines on, BT.601 below.

    Raises:
        ValueError: it is a matrix that FFmpeg's converter does not know, such as ICtCp.
    """
    code = int(frame.colorspace)
    if code == UNSPECIFIED or (code == 0 and not is_rgb(frame.format.name)) or is_rgb(frame.format.name):
        return default_matrix(frame.height)
    if code not in MATRICES:
        known = "BT.601, BT.709, BT.2020, FCC, SMPTE 240M"
        raise ValueError(f"its colours are stored with matrix {code} of ITU-T H.273, which is not read; known: {known}")
    return code


def is_full_range(frame: av.VideoFrame) -> bool:
    """Returns whether black and white are stored as 0 and 255."""
    name = frame.format.name
    return name.startswith(("yuvj", "gray", "ya")) or is_rgb(name) or frame.color_range == ColorRange.JPEG


def to_rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """Returns a frame's pixels, (h, w, 3) RGB: uint8, or uint16 (white is 65535) of more than 8 bits."""
    is_full, matrix, depth = is_full_range(frame), matrix_of(frame), depth_of(frame.format.name)
    pixels = reformatter.reformat(
        frame,
        format="rgb24" if depth <= 8 else "rgb48le",
        src_colorspace=MATRICES[matrix],
        dst_colorspace=_other(matrix),
        src_color_range=ColorRange.JPEG if is_full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=ACCURATE,
        **NO_THREADS,
    ).to_ndarray()
    if depth <= 8 or (is_rgb(frame.format.name) and depth == 16):
        return pixels
    return _scaled(pixels, 65535 / _white(depth if is_full else 8))


def from_rgb(pixels: np.ndarray, pixel_format: str, colors: Colors, reformatter: VideoReformatter) -> av.VideoFrame:
    """Returns pixels (h, w, 3) RGB, uint8 or uint16, as a frame of a pixel format."""
    depth, to_yuv = depth_of(pixel_format), not is_rgb(pixel_format)
    if pixels.dtype == np.uint16 and to_yuv:
        pixels = _scaled(pixels, _white(max(depth, 8) if colors.is_full else 8) / 65535)
    name = "rgb24" if pixels.dtype == np.uint8 else "rgb48le"
    frame = reformatter.reformat(
        av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=name),
        format=pixel_format,
        src_colorspace=_other(colors.matrix),
        dst_colorspace=MATRICES[colors.matrix],
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.JPEG if colors.is_full or not to_yuv else ColorRange.MPEG,
        interpolation=ACCURATE,
        **NO_THREADS,
    )
    return frame


def _other(matrix: int) -> Colorspace:
    """Returns a matrix for the RGB side, where it has no effect. PyAV before 17 ignores ranges if both are equal."""
    return Colorspace.ITU709 if MATRICES[matrix] == Colorspace.ITU601 else Colorspace.ITU601


def _white(depth: int) -> int:
    """Returns swscale's 16-bit white: its conversions shift to the left, and do not repeat bits to fill 16."""
    return (2**depth - 1) << (16 - depth)


def _scaled(pixels: np.ndarray, factor: float) -> np.ndarray:
    return np.rint(pixels.astype(np.float32) * np.float32(factor)).clip(0, 65535).astype(np.uint16)
