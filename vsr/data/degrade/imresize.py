"""MATLAB's ``imresize(image, scale, 'bicubic')``: the filter that made the low-resolution side of most VSR datasets.

OpenCV's and PyTorch's bicubic filters differ from it (a = -0.75; no antialiasing in OpenCV): frames made with those
cost whole decibels against published numbers.

Each axis is one matrix product. The matrix is banded, so it is applied in blocks of rows that touch only the input
rows they need: dense products, without multiplying the zeros.
"""

from functools import lru_cache
from typing import Annotated, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from vsr.registry import Positive, Shared, register

Image = TypeVar("Image", np.ndarray, Tensor)

_ROWS_PER_BLOCK = 16  # a 720p float frame x 1/4 takes 9 ms; with 64 rows 13 ms, with one block for all rows more


class _Block(NamedTuple):
    """Output rows [row, row + len(weights)) are ``weights`` @ input rows [start, stop)."""

    start: int
    stop: int
    weights: Tensor  # (rows, stop - start) float64
    is_exact: bool  # whether float32 holds every sum of uint8 values so weighted; true of 1/4, 1/2, 2, 4


def imresize(image: Image, scale: float, antialiasing: bool = True) -> Image:
    """Returns ``image`` resized by ``scale`` with MATLAB's bicubic filter; sizes become ceil(size * scale).

    A uint8 image gives a uint8 image, rounded half up after the vertical and again after the horizontal pass: the
    pixels of MATLAB, also where its sums miss a half by their rounding. Floats stay floats, are not clipped, and are
    differentiable if they are tensors.

    Args:
        image: numpy (h, w) or (h, w, c), or a tensor (..., h, w); uint8 or float, of any range.
        scale: output size / input size, for both axes; 0.25 makes the LQ side of a x4 dataset.
        antialiasing: widens the filter when shrinking, MATLAB's default. False samples four pixels per axis.

    Raises:
        ValueError: ``scale`` is not positive, or the image has the wrong number of axes or the wrong type.
    """
    if not scale > 0:
        raise ValueError(f"imresize: scale {scale} is not positive")
    if isinstance(image, Tensor):
        if image.ndim < 2 or not (image.is_floating_point() or image.dtype == torch.uint8):
            raise ValueError(f"imresize: a tensor must be uint8 or float (..., h, w), got {image.dtype} {image.shape}")
        rows_done = _resize_rows(image, scale, antialiasing)
        return _resize_rows(rows_done.mT, scale, antialiasing).mT
    if image.ndim not in (2, 3) or image.dtype not in (np.uint8, np.float32, np.float64):
        expected = "an array must be uint8 or float (h, w) or (h, w, c)"
        raise ValueError(f"imresize: {expected}, got {image.dtype} {image.shape}")
    pixels = torch.from_numpy(np.ascontiguousarray(image))
    for _ in range(2):  # vertical pass, transpose, horizontal pass, transpose
        rows = _resize_rows(pixels.reshape(len(pixels), -1), scale, antialiasing)
        pixels = rows.reshape(-1, *pixels.shape[1:]).transpose(0, 1)
    return pixels.contiguous().numpy()


@register("degradation")
def bicubic(gt: Tensor, rng: np.random.Generator, /, scale: Annotated[Positive, Shared("scale")] = 4) -> Tensor:
    """Returns the frames as MATLAB's ``imresize`` shrinks them, rounded to 8 bits as in a file.

    Args:
        gt: (t, 3, H, W) in [0, 1]; H and W are multiples of ``scale``.
        rng: not used.
        scale: GT size / LQ size; the options' top level ``scale`` is filled in.
    """
    return imresize(gt.mul(255).round().to(torch.uint8), 1 / scale).float().div(255)


def _resize_rows(x: Tensor, scale: float, antialiasing: bool) -> Tensor:
    """Returns ``x`` (..., h, w) with its rows resized: (..., ceil(h * scale), w); uint8 in, uint8 out."""
    blocks = _blocks(x.shape[-2], scale, antialiasing)
    if x.dtype == torch.uint8 and not all(block.is_exact for block in blocks):
        return _rounded(_sum_of_taps(x.double(), scale, antialiasing))
    pixels = x.float() if x.dtype == torch.uint8 else x
    resized = torch.cat([block.weights.to(pixels) @ pixels[..., block.start : block.stop, :] for block in blocks], -2)
    return _rounded(resized) if x.dtype == torch.uint8 else resized


def _rounded(pixels: Tensor) -> Tensor:
    return pixels.add_(0.5).clamp_(0, 255).to(torch.uint8)  # the conversion truncates: halves are rounded up


def _sum_of_taps(x: Tensor, scale: float, antialiasing: bool) -> Tensor:
    """Returns the rows resized by sums from left to right, as MATLAB's: their order decides how near halves round."""
    weights, indices = map(torch.from_numpy, _weights_and_indices(x.shape[-2], scale, antialiasing))
    total = torch.zeros(())
    for tap in range(weights.shape[1]):
        total = total + weights[:, tap, None].to(x) * x[..., indices[:, tap].to(x.device), :]
    return total


@lru_cache(maxsize=64)
def _blocks(in_length: int, scale: float, antialiasing: bool) -> list[_Block]:
    """Returns the resizing matrix of one axis as its non-zero blocks."""
    weights, indices = _weights_and_indices(in_length, scale, antialiasing)
    blocks = []
    for row in range(0, len(weights), _ROWS_PER_BLOCK):
        block_weights, block_indices = weights[row : row + _ROWS_PER_BLOCK], indices[row : row + _ROWS_PER_BLOCK]
        start, stop = int(block_indices.min()), int(block_indices.max()) + 1
        matrix = np.zeros((len(block_weights), stop - start))
        # Mirrored borders name an input pixel twice: add, don't assign.
        np.add.at(matrix, (np.arange(len(block_weights))[:, None], block_indices - start), block_weights)
        # With 14 binary places, a sum below 512 has at most 23 digits.
        is_exact = bool(np.all(matrix * 2**14 == np.rint(matrix * 2**14)))
        blocks.append(_Block(start, stop, torch.from_numpy(matrix), is_exact))
    return blocks


def _weights_and_indices(in_length: int, scale: float, antialiasing: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each output pixel the weights of its taps and the input pixels they read, (out, taps) each."""
    stretch = min(scale, 1.0) if antialiasing else 1.0  # < 1 widens the cubic, which makes it a low-pass filter
    width = 4 / stretch
    out_length = int(np.ceil(in_length * scale))
    # Both images cover the same extent. Pixels count from 1, and terms stand as in MATLAB, whose rounding these have.
    centre = np.arange(1, out_length + 1) / scale + 0.5 * (1 - 1 / scale)
    taps = np.floor(centre - width / 2)[:, None] + np.arange(int(np.ceil(width)) + 2)
    weights = stretch * _cubic(stretch * (centre[:, None] - taps))
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = (taps.astype(np.int64) - 1) % (2 * in_length)  # … 1 0 | 0 1 … n-1 | n-1 … 0 | 0 …
    return weights, np.minimum(mirrored, 2 * in_length - 1 - mirrored)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Returns the cubic convolution kernel with a = -0.5.

    Reference: Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 1981, equation 15.
    """
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
