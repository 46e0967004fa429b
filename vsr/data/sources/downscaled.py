"""LQ frames made of GT frames when they are read."""

import numpy as np

from vsr.data.degrade.imresize import imresize
from vsr.data.sources.base import Crop, FrameStore

MARGIN = 4  # LQ pixels around a crop, further than the kernel reaches


class DownscaledStore:
    """The frames of another store, reduced by MATLAB's bicubic ``imresize``; a crop equals that of the whole frame.

    Args:
        gt: the store of the GT frames, of which the largest multiple of ``scale`` is used.
        scale: GT size / LQ size.
    """

    def __init__(self, gt: FrameStore, scale: int) -> None:
        self.root, self.gt, self.scale = gt.root, gt, scale

    def clips(self) -> list[str]:
        """Returns the names of all clips."""
        return self.gt.clips()

    def frames(self, clip: str) -> list[str]:
        """Returns the names of a clip's frames."""
        return self.gt.frames(clip)

    def has(self, key: str) -> bool:
        """Returns whether there is a frame of this key."""
        return self.gt.has(key)

    def size(self, key: str) -> tuple[int, int]:
        """Returns a frame's height and width."""
        h, w = self.gt.size(key)
        return h // self.scale, w // self.scale

    def read(self, key: str, crop: Crop | None = None) -> np.ndarray:
        """Returns a frame or a rectangle of it: (h, w, 3) uint8 RGB."""
        h, w = self.size(key)
        crop = crop or Crop(0, 0, h, w)
        if not crop.fits(h, w):
            raise ValueError(f"{key} is {h}×{w}; the crop does not fit it: {crop}")
        top, left = max(crop.top - MARGIN, 0), max(crop.left - MARGIN, 0)
        bottom, right = min(crop.top + crop.height + MARGIN, h), min(crop.left + crop.width + MARGIN, w)
        x = self.scale
        gt = self.gt.read(key, Crop(top * x, left * x, (bottom - top) * x, (right - left) * x))
        lq = imresize(gt, 1 / x)
        return lq[crop.top - top :, crop.left - left :][: crop.height, : crop.width]
