"""Blur kernels: (size, size) float32 arrays of sum 1, x to the right and y down, ``size`` odd.

References: Pascal et al., "Parameter estimation for multivariate generalized Gaussian distributions", IEEE TSP 2013,
for the generalised Gaussian; Wang et al., "Real-ESRGAN", ICCVW 2021, section 3, for the others.
"""

import numpy as np
from scipy.special import j1


def gaussian(size: int, sigma: tuple[float, float], angle: float = 0.0, beta: float = 1.0) -> np.ndarray:
    """Returns exp(-d^beta / 2), d being the squared Mahalanobis distance from the centre.

    Args:
        size: side of the kernel.
        sigma: standard deviations along the two axes, in pixels.
        angle: of the first axis to x, in radians, towards y.
        beta: 1 is the Gaussian; below, the tails are heavier, above, the kernel is flatter.
    """
    return _normalised(np.exp(-0.5 * _distance(size, sigma, angle) ** beta))


def plateau(size: int, sigma: tuple[float, float], angle: float = 0.0, beta: float = 1.0) -> np.ndarray:
    """Returns 1 / (1 + d^beta); arguments as :func:`gaussian`."""
    return _normalised(1 / (1 + _distance(size, sigma, angle) ** beta))


def sinc(size: int, cutoff: float) -> np.ndarray:
    """Returns the ideal low-pass filter of circular shape, cut to the kernel's size: it makes ringing and overshoot.

    Args:
        size: side of the kernel.
        cutoff: the highest frequency that passes, in radians per pixel; pi is the highest that there is.
    """
    x, y = _grid(size)
    radius = np.hypot(x, y)
    radius[size // 2, size // 2] = 1  # any number: the limit at 0 stands in
    kernel = cutoff * j1(cutoff * radius) / (2 * np.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    return _normalised(kernel)


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns x and y of each position, 0 in the centre."""
    steps = np.arange(size) - size // 2.0
    x, y = np.meshgrid(steps, steps)
    return x, y


def _distance(size: int, sigma: tuple[float, float], angle: float) -> np.ndarray:
    x, y = _grid(size)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (along / sigma[0]) ** 2 + (across / sigma[1]) ** 2


def _normalised(kernel: np.ndarray) -> np.ndarray:
    return (kernel / kernel.sum()).astype(np.float32)
