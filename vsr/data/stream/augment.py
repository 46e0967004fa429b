"""Crops, and frames as tensors."""

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
    frame_size: tuple[int, int] | None = None  # (h, w) of the frames it was drawn for; others are refused

    def fits(self, h: int, w: int) -> bool:
        """Returns whether it lies inside a frame of this size, and was drawn for one."""
        is_inside = 0 <= self.top <= h - self.height and 0 <= self.left <= w - self.width
        return is_inside and self.frame_size in (None, (h, w))


def to_planes(frames: np.ndarray) -> Tensor:
    """Returns uint8 frames (…, h, w, c) as a uint8 tensor (…, c, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3)))


def to_unit_range(pixels: Tensor) -> Tensor:
    """Returns uint8 pixels as float32 in [0, 1]."""
    return pixels.float().div_(255)
