"""Pictures that show a result at a glance."""

import cv2
import numpy as np

from vsr.evaluation.scores import Restored, baselines

HEIGHT = 320  # of a panel, in pixels of the output
DIFFERENCE = 4  # factor of an error, to be seen
LABEL = 28  # height of the line of text above a panel


def comparison(restored: Restored, scale: int) -> np.ndarray:
    """Returns LQ, bicubic, network and ground truth side by side, (h, w, 3) uint8 BGR.

    The panels show the square of the frame with most detail, in LQ pixels enlarged without interpolation.
    """
    reference = restored.by_method["network"] if restored.gt is None else restored.gt
    size = min(HEIGHT, *reference.shape[:2]) // scale * scale
    top, left = (position // scale * scale for position in most_detailed_square(reference, size))
    lq = restored.lq[top // scale : (top + size) // scale, left // scale : (left + size) // scale]
    panels = {"LQ": cv2.resize(lq, (size, size), interpolation=cv2.INTER_NEAREST)}
    for method, image in (baselines(restored.lq, scale) | restored.by_method).items():
        if method != "bilinear":
            panels[method] = image[top : top + size, left : left + size]
    if restored.gt is not None:
        panels["GT"] = restored.gt[top : top + size, left : left + size]
    return beside(panels)


def triptych(restored: Restored) -> dict[str, np.ndarray]:
    """Returns LQ, the network's frame, the ground truth and their difference, (h, w, 3) uint8 RGB, by title."""
    sr = restored.by_method["network"]
    images = {"LQ": restored.lq, "SR": sr}
    if restored.gt is not None:
        images |= {"GT": restored.gt, f"difference x{DIFFERENCE}": difference(sr, restored.gt)}
    return {title: np.ascontiguousarray(image[..., ::-1]) for title, image in images.items()}


def beside(panels: dict[str, np.ndarray]) -> np.ndarray:
    """Returns images of one size side by side under their titles, small ones enlarged; all (h, w, 3) uint8."""
    enlarge = max(1, HEIGHT // next(iter(panels.values())).shape[0])
    return np.hstack([_panel(title, image, enlarge) for title, image in panels.items()])


def difference(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the absolute difference of two uint8 images, enlarged to be seen."""
    return np.minimum(np.abs(image.astype(np.int16) - truth) * DIFFERENCE, 255).astype(np.uint8)


def most_detailed_square(image: np.ndarray, size: int) -> tuple[int, int]:
    """Returns top and left of the square with the largest mean gradient."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    detail = np.abs(cv2.Sobel(gray, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    sums = cv2.integral(detail)
    squares = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    top, left = np.unravel_index(np.argmax(squares), squares.shape)
    return int(top), int(left)


def _panel(title: str, image: np.ndarray, enlarge: int) -> np.ndarray:
    """Returns the image below a line with its title, with a white margin at the right."""
    image = np.repeat(np.repeat(image, enlarge, axis=0), enlarge, axis=1)
    panel = np.full((image.shape[0] + LABEL, image.shape[1] + 4, 3), 255, np.uint8)
    panel[LABEL:, :-4] = image
    return cv2.putText(panel, title, (4, LABEL - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
