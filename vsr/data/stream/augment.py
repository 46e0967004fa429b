"""Crops, flips and the conversion to tensors. Pixels stay uint8 until the very end."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Crop(NamedTuple):
    """A rectangle of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int
    frame_size: tuple[int, int] | None = None  # (h, w) of the frames it was drawn for; those of another are refused

    def scaled(self, scale: int) -> "Crop":
        """Returns the same rectangle in a frame ``scale`` times as large."""
        frame_size = self.frame_size and (self.frame_size[0] * scale, self.frame_size[1] * scale)
        return Crop(self.top * scale, self.left * scale, self.height * scale, self.width * scale, frame_size)

    def fits(self, h: int, w: int) -> bool:
        """Returns whether it lies inside a frame of this size, and was drawn for one."""
        is_inside = 0 <= self.top <= h - self.height and 0 <= self.left <= w - self.width
        return is_inside and self.frame_size in (None, (h, w))


class Augmentation(NamedTuple):
    """Mirrors frames horizontally, then vertically, then swaps their axes."""

    hflip: bool = False
    vflip: bool = False
    transpose: bool = False

    def __call__(self, planes: np.ndarray) -> np.ndarray:
        """Returns a view of ``planes`` (…, h, w), augmented."""
        if self.hflip:
            planes = planes[..., ::-1]
        if self.vflip:
            planes = planes[..., ::-1, :]
        return planes.swapaxes(-2, -1) if self.transpose else planes


def draw_crop(rng: np.random.Generator, frame_size: tuple[int, int], crop_size: int) -> Crop:
    """Returns a square of ``crop_size`` pixels, anywhere inside a frame of ``frame_size`` (h, w)."""
    top, left = (int(rng.integers(length - crop_size + 1)) for length in frame_size)
    return Crop(top, left, crop_size, crop_size, frame_size)


def draw_augmentation(rng: np.random.Generator, use_hflip: bool, use_rot: bool) -> Augmentation:
    """Returns a random augmentation: ``use_rot`` allows the vertical flip and the transposition, half the time each."""
    coins = int(rng.integers(8))
    return Augmentation(use_hflip and bool(coins & 1), use_rot and bool(coins & 2), use_rot and bool(coins & 4))


def to_planes(frames: np.ndarray) -> Tensor:
    """Returns uint8 frames (…, h, w, c) as a uint8 tensor (…, c, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3)))


def to_unit_range(pixels: Tensor) -> Tensor:
    """Returns uint8 pixels as float32 in [0, 1]."""
    return pixels.float().div_(255)
