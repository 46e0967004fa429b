"""YUV to RGB and back, by the matrix and the range of a video."""

from typing import NamedTuple

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from torch import Tensor

BT601, BT601_525, BT709, BT2020 = 5, 6, 1, 9  # matrices, by their codes in ITU-T H.273; 5 is of 625 lines, as 576
UNSPECIFIED = 2
HDR = {16: "PQ", 18: "HLG"}  # transfer functions
HD_LINES = 720  # frames of so many lines are BT.709 if they are untagged
MATRICES = {BT709: Colorspace.ITU709, 4: Colorspace.FCC, BT601: Colorspace.ITU601, BT601_525: Colorspace.ITU601}
MATRICES |= {7: Colorspace.SMPTE240M, BT2020: 9}  # PyAV names BT.2020 only since version 17
WEIGHTS = {BT709: (0.2126, 0.0722), 4: (0.30, 0.11), BT601: (0.299, 0.114), BT601_525: (0.299, 0.114)}  # of red, blue
WEIGHTS |= {7: (0.212, 0.087), BT2020: (0.2627, 0.0593)}
# swscale's bicubic, full chroma interpolation and accurate rounding. The other settings are up to 4 levels too dark.
ACCURATE = 4 | 0x2000 | 0x40000
PYAV = int(av.__version__.split(".")[0])
# One thread: a forked worker that frees its parent's converter would wait for threads that it does not have.
NO_THREADS = {"threads": 1} if PYAV >= 17 else {}


class Colors(NamedTuple):
    """How the pixels of a video are stored; codes of ITU-T H.273.

    Args:
        matrix: YUV from RGB; ``BT709``, ``BT601`` and the others in MATRICES; 0 is RGB.
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
    if name.startswith(("gray", "ya")):
        return frame.color_range != ColorRange.MPEG
    return name.startswith("yuvj") or is_rgb(name) or frame.color_range == ColorRange.JPEG


def to_rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """Returns a frame's pixels, (h, w, 3) RGB: uint8, or uint16 (white is 65535) of more than 8 bits."""
    is_full, matrix, name = is_full_range(frame), matrix_of(frame), frame.format.name
    depth = depth_of(name)
    if depth > 8 and not is_rgb(name):  # swscale's 16-bit white is 65280 or less, and depends on depth and range
        planes = _reformatted(reformatter, frame, f"yuv444p{depth}le", matrix, matrix, is_full, is_full)
        codes = torch.from_numpy(np.stack([_plane(planes, number) for number in range(3)], -1)).float()
        to_yuv, offset = _yuv_of_rgb(matrix, is_full, depth)
        rgb = (codes - offset) @ torch.linalg.inv(to_yuv).T
        return rgb.mul_(65535).round_().clamp_(0, 65535).to(torch.uint16).numpy()
    other = BT709 if MATRICES[matrix] == Colorspace.ITU601 else BT601  # PyAV before 17 ignores ranges if both are equal
    target = "rgb24" if depth <= 8 else "rgb48le"
    return _reformatted(reformatter, frame, target, matrix, other, is_full, True).to_ndarray()


def from_rgb(pixels: np.ndarray, pixel_format: str, colors: Colors, reformatter: VideoReformatter) -> av.VideoFrame:
    """Returns pixels (h, w, 3) RGB, uint8 or uint16, as a frame of a pixel format."""
    depth, matrix = depth_of(pixel_format), colors.matrix
    if not is_rgb(pixel_format) and (depth > 8 or pixels.dtype == np.uint16):
        to_yuv, offset = _yuv_of_rgb(matrix, colors.is_full, depth)
        levels = torch.from_numpy(np.ascontiguousarray(pixels)).float().div_(np.iinfo(pixels.dtype).max)
        codes = (levels @ to_yuv.T).add_(offset).round_().clamp_(0, 2**depth - 1)
        planes = codes.to(torch.uint16 if depth > 8 else torch.uint8).permute(2, 0, 1).contiguous().numpy()
        frame = _of_planes(planes, "yuv444p" if depth <= 8 else f"yuv444p{depth}le")
        return _reformatted(reformatter, frame, pixel_format, matrix, matrix, colors.is_full, colors.is_full)
    name = "rgb24" if pixels.dtype == np.uint8 else "rgb48le"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=name)
    other = BT709 if MATRICES[matrix] == Colorspace.ITU601 else BT601
    return _reformatted(reformatter, frame, pixel_format, other, matrix, True, colors.is_full or is_rgb(pixel_format))


def _reformatted(
    reformatter: VideoReformatter,
    frame: av.VideoFrame,
    pixel_format: str,
    matrix: int,
    new_matrix: int,
    is_full: bool,
    becomes_full: bool,
) -> av.VideoFrame:
    return reformatter.reformat(
        frame,
        format=pixel_format,
        src_colorspace=MATRICES[matrix],
        dst_colorspace=MATRICES[new_matrix],
        src_color_range=ColorRange.JPEG if is_full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG if becomes_full else ColorRange.MPEG,
        interpolation=ACCURATE,
        **NO_THREADS,
    )


def _yuv_of_rgb(matrix: int, is_full: bool, depth: int) -> tuple[Tensor, Tensor]:
    """Returns the matrix and the offset that make codes of Y, Cb, Cr of RGB in [0, 1].

    Reference: ITU-T H.273, equations 20 to 31 and 38 to 46.
    """
    red, blue = WEIGHTS[matrix]
    luma = torch.tensor([red, 1 - red - blue, blue])
    unit = torch.eye(3)
    rows = torch.stack([luma, (unit[2] - luma) / (2 * (1 - blue)), (unit[0] - luma) / (2 * (1 - red))])
    step, half, largest = 2.0 ** (depth - 8), 2.0 ** (depth - 1), 2.0**depth - 1
    if is_full:
        return rows * largest, torch.tensor([0, half, half])
    return rows * torch.tensor([[219 * step], [224 * step], [224 * step]]), torch.tensor([16 * step, half, half])


def _plane(frame: av.VideoFrame, number: int) -> np.ndarray:
    plane = frame.planes[number]
    return np.frombuffer(bytes(plane), np.uint16).reshape(plane.height, -1)[:, : plane.width]


def _of_planes(planes: np.ndarray, pixel_format: str) -> av.VideoFrame:
    """Returns (3, h, w) codes as a frame of a 4:4:4 format."""
    frame = av.VideoFrame(planes.shape[2], planes.shape[1], pixel_format)
    for plane, codes in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // codes.itemsize), codes.dtype)
        rows[:, : plane.width] = codes
        plane.update(rows.tobytes())
    return frame
