"""Frames of a network as 8-bit images and files."""

from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from vsr.evaluation.restore import to_pixels
from vsr.utils.files import write_atomically


def to_image(frame: Tensor) -> np.ndarray:
    """Returns a frame (3, h, w), RGB in [0, 1], as (h, w, 3) uint8 BGR, clamped and rounded."""
    return to_bgr(to_pixels(frame))


def to_bgr(pixels: np.ndarray) -> np.ndarray:
    """Returns an image (h, w, 3) with its channels in reverse order: BGR of RGB, as OpenCV and the metrics read it."""
    return np.ascontiguousarray(pixels[..., ::-1])


def write_image(file: Path, image: np.ndarray) -> None:
    """Writes a PNG or JPEG, as the name ends; OpenCV itself does not notice a disk that is full."""
    encoded = cv2.imencode(file.suffix, image)[1].tobytes()
    write_atomically(file, lambda stream: stream.write(encoded), flush=False)
