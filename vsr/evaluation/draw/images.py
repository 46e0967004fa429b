"""Images (h, w, 3) uint8, BGR: from frames, on a canvas, to files."""

from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from vsr.evaluation.restore import to_pixels
from vsr.utils.files import write_atomically

TITLE = 22  # height of a line of text, in pixels
GAP = 6  # between panels


def to_image(frame: Tensor) -> np.ndarray:
    """Returns a frame (3, h, w), RGB in [0, 1], as (h, w, 3) uint8 BGR, clamped and rounded."""
    return to_bgr(to_pixels(frame))


def to_bgr(pixels: np.ndarray) -> np.ndarray:
    """Returns an image (h, w, 3) with its channels in reverse order: BGR of RGB, as OpenCV and the metrics read it."""
    return np.ascontiguousarray(pixels[..., ::-1])


def enlarged(image: np.ndarray, factor: int) -> np.ndarray:
    """Returns an image with each pixel repeated ``factor`` times in both directions."""
    return image.repeat(factor, 0).repeat(factor, 1)


def canvas(height: int, width: int) -> np.ndarray:
    """Returns a white image."""
    return np.full((height, width, 3), 255, np.uint8)


def write_text(image: np.ndarray, text: str, bottom: int, left: int = 6) -> np.ndarray:
    """Writes black ASCII text into an image; ``left`` and ``bottom`` are in pixels."""
    return cv2.putText(image, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)


def in_a_row(panels: dict[str, np.ndarray]) -> np.ndarray:
    """Returns images of one height side by side under their titles; all (h, w, 3) uint8."""
    columns = []
    for title, image in panels.items():
        h, w, _ = image.shape
        column = canvas(h + TITLE, w + GAP)
        column[TITLE:, :w] = image
        columns.append(write_text(column, title, TITLE - 7))
    return np.hstack(columns)


def write_image(file: Path, image: np.ndarray) -> None:
    """Writes a PNG or JPEG, by the name's suffix; cv2.imwrite does not notice a full disk."""
    encoded = cv2.imencode(file.suffix, image)[1].tobytes()
    write_atomically(file, lambda stream: stream.write(encoded), flush=False)
