"""PSNR and SSIM as the VSR literature measures them: on [0, 255] values, Y by MATLAB's BT.601, SSIM by Wang's code."""

import cv2
import numpy as np

from vsr.registry import NotNegative, register

_PEAK = 255.0
_BGR_TO_Y = np.array([24.966, 128.553, 65.481]) / 255  # MATLAB's rgb2ycbcr: Y runs from 16 to 235
_WINDOW_SIZE = 11


@register("metric")
def calculate_psnr(
    img: np.ndarray, img2: np.ndarray, crop_border: NotNegative = 0, *, test_y_channel: bool = False
) -> float:
    """Returns the peak signal-to-noise ratio in dB over all channels jointly; infinite for equal images.

    Args:
        img: (h, w, c) or (h, w), uint8 or floats in [0, 255]; three channels are B, G, R, as cv2 reads them.
        img2: the image compared with, of the same shape.
        crop_border: pixels left out at each edge. The published protocols leave out none.
        test_y_channel: measures on luma (MATLAB's BT.601, 16 to 235) instead of the three channels.

    Raises:
        ValueError: the shapes differ or ``crop_border`` leaves nothing.
    """
    x, y = _prepare(img, img2, crop_border, test_y_channel)
    mse = np.mean((x - y) ** 2)
    return float("inf") if mse == 0 else float(10 * np.log10(_PEAK**2 / mse))


@register("metric")
def calculate_ssim(
    img: np.ndarray, img2: np.ndarray, crop_border: NotNegative = 0, *, test_y_channel: bool = False
) -> float:
    """Returns the structural similarity, the mean over channels and over pixels whose window lies inside the image.

    Takes the arguments as :func:`calculate_psnr` does.

    Raises:
        ValueError: the shapes differ or less than the 11 x 11 window is left.

    Reference: Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004,
        equation 13. Differs: none (11 x 11 Gaussian, sigma 1.5, biased variances, as in its MATLAB code).
    """
    x, y = _prepare(img, img2, crop_border, test_y_channel)
    if min(x.shape[:2]) < _WINDOW_SIZE:
        raise ValueError(f"SSIM needs at least {_WINDOW_SIZE} x {_WINDOW_SIZE} pixels, got {x.shape[0]} x {x.shape[1]}")
    c1, c2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    mean_xx, mean_yy, mean_xy = mean_x**2, mean_y**2, mean_x * mean_y
    covariance = _window_mean(x * y) - mean_xy
    variances = _window_mean(x * x) - mean_xx + _window_mean(y * y) - mean_yy
    similarity = (2 * mean_xy + c1) * (2 * covariance + c2) / ((mean_xx + mean_yy + c1) * (variances + c2))
    return float(similarity.mean())


def _prepare(img: np.ndarray, img2: np.ndarray, crop_border: int, use_y: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns both images as float64 (h, w, c), cropped, as luma if asked for."""
    if img.shape != img2.shape:
        raise ValueError(f"the two images differ in shape: {img.shape} and {img2.shape}")
    h, w = img.shape[:2]
    if crop_border < 0 or 2 * crop_border >= min(h, w):
        raise ValueError(f"crop_border {crop_border} leaves nothing of a {h} x {w} image")
    inside = slice(crop_border, h - crop_border), slice(crop_border, w - crop_border)
    x, y = (np.atleast_3d(image)[inside].astype(np.float64) for image in (img, img2))
    if use_y and x.shape[2] == 3:
        x, y = ((image @ _BGR_TO_Y + 16)[..., None] for image in (x, y))
    return x, y


def _window_mean(x: np.ndarray) -> np.ndarray:
    """Returns the Gaussian-weighted mean of every 11 x 11 window that lies inside ``x``: (h - 10, w - 10, c)."""
    gaussian = cv2.getGaussianKernel(_WINDOW_SIZE, 1.5)
    border = _WINDOW_SIZE // 2
    filtered = np.atleast_3d(cv2.sepFilter2D(x, cv2.CV_64F, gaussian, gaussian))
    return filtered[border:-border, border:-border]
