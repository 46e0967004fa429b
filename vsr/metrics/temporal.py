"""Measures of the motion of a clip: each compares two consecutive frames with those of the ground truth."""

import cv2
import numpy as np

from vsr.metrics.traits import traits
from vsr.registry import NotNegative, register

_FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)  # pyramid scale, levels, window, iterations, poly_n, poly_sigma, flags


@register("metric")
@traits("pair", lower_is_better=True, how="flow: OpenCV's Farneback (0.5, 3, 15, 3, 5, 1.2) on grey frames, in pixels")
def calculate_tof(
    img: np.ndarray, img2: np.ndarray, before: np.ndarray, before2: np.ndarray, /, crop_border: NotNegative = 8
) -> float:
    """Returns tOF, the mean distance in pixels between the flow of the restored frames and that of the ground truth.

    Args:
        img: restored frame (h, w, 3), uint8 BGR.
        img2: its ground truth, of the same shape.
        before: restored frame before it.
        before2: ground truth of that frame.
        crop_border: pixels of the flow left out at each edge, where it is unreliable.

    Raises:
        ValueError: the shapes differ or ``crop_border`` leaves nothing.

    Reference: Chu et al., "Learning temporal coherence via self-supervision for GAN-based video generation"
        (TecoGAN), ACM TOG 2020, equation 8; its tables list 10 · tOF. Differs: 8 pixels are left out at each edge; its
        code leaves out 8 to 24, so that the sides are multiples of 32.
    """
    _check((img, img2, before, before2), crop_border)
    difference = _farneback(before, img) - _farneback(before2, img2)
    h, w = difference.shape[:2]
    return float(
        np.linalg.norm(difference[crop_border : h - crop_border, crop_border : w - crop_border], axis=2).mean()
    )


@register("metric")
@traits("pair", lower_is_better=True, how="flow: OpenCV's DIS (medium) of the ground truth; thousandths of [0, 1]²")
def calculate_warping_error(
    img: np.ndarray, img2: np.ndarray, before: np.ndarray, before2: np.ndarray, /, crop_border: NotNegative = 0
) -> float:
    """Returns the warping error E_warp in thousandths: how much a point changes its colour from a frame to the next.

    The flow of the ground truth says where a point moves. Occluded points and motion boundaries are left out. The
    error is the mean of the squared differences of the values in [0, 1]. The ground truth's own is not 0, and a blurred
    clip may have less.

    Args:
        img: restored frame (h, w, 3), uint8 BGR.
        img2: its ground truth, of the same shape.
        before: restored frame before it.
        before2: ground truth of that frame.
        crop_border: pixels left out at each edge.

    Raises:
        ValueError: the shapes differ or ``crop_border`` leaves nothing.

    Reference: Lai et al., "Learning blind video temporal consistency", ECCV 2018, section 4.2; occlusions as in
        Ruder et al., "Artistic style transfer for videos", GCPR 2016, equations 5 and 6. Differs: the
        flow is OpenCV's DIS, not FlowNet2; points that leave the frame are left out. Where none is left, it is 0.
    """
    _check((img, img2, before, before2), crop_border)
    there, back = _dis(before2, img2), _dis(img2, before2)
    visible = _visible(there, _warp(back, there), crop_border)
    warped = _warp(img.astype(np.float32) / 255, there)
    squared = ((before.astype(np.float32) / 255 - warped) ** 2).mean(2)
    return float(squared[visible].mean()) * 1000 if visible.any() else 0.0


def _check(images: tuple[np.ndarray, ...], crop_border: int) -> None:
    h, w = images[0].shape[:2]
    if len({image.shape for image in images}) > 1:
        raise ValueError(f"the images differ in shape: {', '.join(str(image.shape) for image in images)}")
    if 2 * crop_border >= min(h, w):
        raise ValueError(f"crop_border {crop_border} leaves nothing of a {h} x {w} image")


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)


def _farneback(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the flow (h, w, 2) in pixels, x and y, from the first to the second frame."""
    return cv2.calcOpticalFlowFarneback(_grey(first), _grey(second), None, *_FARNEBACK)  # type: ignore[call-overload]


def _dis(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the flow (h, w, 2) in pixels, x and y, from the first to the second frame."""
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return estimator.calc(_grey(first), _grey(second), None)  # type: ignore[call-overload]


def _warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Returns the image where the flow points, bilinear."""
    x, y = _targets(flow)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _targets(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions, x and y, that a flow (h, w, 2) points to."""
    h, w = flow.shape[:2]
    return flow[..., 0] + np.arange(w, dtype=np.float32), flow[..., 1] + np.arange(h, dtype=np.float32)[:, None]


def _visible(there: np.ndarray, back: np.ndarray, crop_border: int) -> np.ndarray:
    """Returns where a point of the first frame is seen in the second, and is not at a motion boundary: (h, w) bool.

    ``there`` is the flow to the second frame, ``back`` the flow back from where it points.
    """
    h, w = there.shape[:2]
    x, y = _targets(there)
    inside = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    inside[:crop_border] = inside[h - crop_border :] = inside[:, :crop_border] = inside[:, w - crop_border :] = False
    lengths = (there**2).sum(2), (back**2).sum(2)
    consistent = ((there + back) ** 2).sum(2) <= 0.01 * (lengths[0] + lengths[1]) + 0.5
    rows, columns = np.gradient(there, axis=(0, 1))
    smooth = (rows**2 + columns**2).sum(2) <= 0.01 * lengths[0] + 0.002
    return inside & consistent & smooth
