"""What becomes of a restored frame before it is written: its size, the comparison with bicubic."""

from typing import NamedTuple

import av
import numpy as np

from vsr.data.degrade.imresize import imresize
from vsr.evaluation.draw.comparison import beside
from vsr.evaluation.draw.images import to_bgr
from vsr.utils.errors import UserError


class Size(NamedTuple):
    """The size of the output.

    Args:
        height: in pixels.
        width: in pixels.
        factor: output size / the network's; 1 leaves its frames as they are.
    """

    height: int
    width: int
    factor: float


def output_size(
    height: int, width: int, network_scale: int, scale: float | None, wanted: int | None, pixel_format: str | None
) -> Size:
    """Returns the size of the output of a film.

    Args:
        height: of the film's frames.
        width: of the film's frames.
        network_scale: of the network.
        scale: output size / input size; None is the network's.
        wanted: the output's height; None follows from ``scale``.
        pixel_format: of the output; one with halved chroma takes even sizes only, so that the last row or column of
            an odd one is repeated. None keeps odd sizes.

    Raises:
        UserError: the pixel format cannot have the wanted height.
    """
    factor = 1.0
    if wanted is not None:
        factor = wanted / (height * network_scale)
        if pixel_format is not None and wanted % 2 and av.VideoFormat(pixel_format).chroma_height(2) == 1:
            even = f"--height {wanted + 1}, or --pix-fmt yuv444p"
            raise UserError(f"--height {wanted}: {pixel_format} needs an even height; try {even}")
    elif scale is not None:
        factor = scale / network_scale
    new = [max(round(side * network_scale * factor), 1) for side in (height, width)]
    if pixel_format is not None:
        layout = av.VideoFormat(pixel_format)
        new[0] += new[0] % 2 if layout.chroma_height(2) == 1 else 0
        new[1] += new[1] % 2 if layout.chroma_width(2) == 1 else 0
    return Size(new[0], new[1], factor)


def resized(pixels: np.ndarray, size: Size) -> np.ndarray:
    """Returns a network's frame at the size of the output; (h, w, 3) uint8 or uint16."""
    if size.factor != 1:
        pixels = _imresize(pixels, size.factor)
    pixels = pixels[: size.height, : size.width]
    more = size.height - pixels.shape[0], size.width - pixels.shape[1]
    return np.pad(pixels, ((0, more[0]), (0, more[1]), (0, 0)), "edge") if any(more) else pixels


def halves(lq: np.ndarray, sr: np.ndarray, network_scale: int, size: Size) -> np.ndarray:
    """Returns the left half of the bicubic frame and the right half of the network's; ``sr`` has the output's size."""
    bicubic = resized(_imresize(lq, network_scale) if network_scale != 1 else lq, size)
    picture = np.array(sr)
    picture[:, : size.width // 2] = bicubic[:, : size.width // 2]
    return picture


def preview(lq: np.ndarray, sr: np.ndarray, network_scale: int) -> np.ndarray:
    """Returns LQ, bicubic and network side by side, (h, w, 3) uint8 BGR."""
    lq, sr = (pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8) for pixels in (lq, sr))
    enlarged = lq.repeat(network_scale, 0).repeat(network_scale, 1)
    panels = {"LQ": enlarged, "bicubic": _imresize(lq, network_scale) if network_scale != 1 else lq, "network": sr}
    return beside({title: to_bgr(pixels) for title, pixels in panels.items()})


def _imresize(pixels: np.ndarray, factor: float) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return imresize(pixels, factor)
    floats = imresize(pixels.astype(np.float32), factor)
    return np.rint(floats).clip(0, 65535).astype(np.uint16)
