"""Restored frames beside the ground truth."""

import cv2
import numpy as np

from vsr.evaluation.draw.images import enlarged, in_a_row, to_bgr
from vsr.evaluation.scores import Restored, baselines

HEIGHT = 320  # of a panel, in pixels of the output
FULL_SCALE = 64  # levels of difference that have the brightest colour
DIFFERENCE = 4  # factor of a difference, to be visible


def comparison(restored: Restored, scale: int) -> np.ndarray:
    """Returns LQ, bicubic, network and ground truth side by side, (h, w, 3) uint8 BGR.

    The panels show the square of the frame with most detail, in LQ pixels enlarged without interpolation.
    """
    reference = restored.by_method["network"] if restored.gt is None else restored.gt
    size = min(HEIGHT, *reference.shape[:2]) // scale * scale
    top, left = (position // scale * scale for position in most_detailed_square(reference, size))
    images = {"LQ": enlarged(restored.lq, scale), **baselines(restored.lq, scale), **restored.by_method}
    images.pop("bilinear", None)
    if restored.gt is not None:
        images["GT"] = restored.gt
    return beside({name: image[top : top + size, left : left + size] for name, image in images.items()})


def triptych(restored: Restored) -> dict[str, np.ndarray]:
    """Returns LQ, the network's frame, the ground truth and their difference, (h, w, 3) uint8 RGB, by title."""
    sr = restored.by_method["network"]
    images = {"LQ": restored.lq, "SR": sr}
    if restored.gt is not None:
        images |= {"GT": restored.gt, f"difference x{DIFFERENCE}": difference(sr, restored.gt)}
    return {title: to_bgr(image) for title, image in images.items()}


def beside(panels: dict[str, np.ndarray]) -> np.ndarray:
    """Returns images of one size side by side under their titles, small ones enlarged to up to HEIGHT."""
    return in_a_row({title: enlarged(image, max(1, HEIGHT // len(image))) for title, image in panels.items()})


def difference(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the absolute difference of two uint8 images, times DIFFERENCE."""
    return np.minimum(np.abs(image.astype(np.int16) - truth) * DIFFERENCE, 255).astype(np.uint8)


def difference_map(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the largest difference over the channels in colours: black is 0, yellow FULL_SCALE levels and more."""
    levels = np.abs(image.astype(np.int16) - truth).max(2)
    scaled = np.minimum(levels * (255 / FULL_SCALE), 255).astype(np.uint8)
    return cv2.applyColorMap(scaled, cv2.COLORMAP_INFERNO)


def most_detailed_square(image: np.ndarray, size: int) -> tuple[int, int]:
    """Returns top and left of the square with the largest mean gradient."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    detail = np.abs(cv2.Sobel(gray, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    sums = cv2.integral(detail)
    squares = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    top, left = np.unravel_index(np.argmax(squares), squares.shape)
    return int(top), int(left)
