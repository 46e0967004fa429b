"""Noise of sensors: a step of a chain, see :mod:`vsr.data.degrade.chain`."""

from dataclasses import dataclass

import cv2
import numpy as np

from vsr.data.degrade.compression import to_levels
from vsr.data.degrade.draws import Share, Walk, Weight, Weights
from vsr.registry import register


@dataclass(frozen=True)
class Noises(Weights):
    """Kinds of noise, with weights.

    Args:
        gaussian: the same everywhere.
        poisson: of counted photons, stronger where the frame is brighter.
    """

    gaussian: Weight = 0.0
    poisson: Weight = 0.0


@register("degradation_step")
def noise(
    frames: list[np.ndarray],
    rng: np.random.Generator,
    lq_size: tuple[int, int],
    /,
    kinds: Noises = Noises(gaussian=1, poisson=1),
    sigma: Walk = Walk(1, 30, 0.1),
    poisson_scale: Walk = Walk(0.05, 3, 0.005),
    gray: Share = 0.4,
) -> list[np.ndarray]:
    """Adds noise of the clip's kind, whose strength walks; each frame has its own.

    Args:
        frames: of one clip, (h, w, 3) float32 RGB.
        rng: draws the parameters and the noise.
        lq_size: not used.
        kinds: kinds of noise, with weights.
        sigma: standard deviation of Gaussian noise, in levels of 255.
        poisson_scale: factor of Poisson noise.
        gray: the share of clips whose noise is equal in the three channels.
    """
    kind, is_gray = kinds.draw(rng), rng.random() < gray
    if kind == "gaussian":
        sigmas = sigma.values(rng, len(frames))
        return [frame + gaussian_noise(frame, rng, s, is_gray) for frame, s in zip(frames, sigmas, strict=True)]
    scales = poisson_scale.values(rng, len(frames))
    return [frame + s * poisson_noise(frame, rng, is_gray) for frame, s in zip(frames, scales, strict=True)]


def gaussian_noise(frame: np.ndarray, rng: np.random.Generator, sigma: float, is_gray: bool) -> np.ndarray:
    """Returns noise of a frame, (h, w, 3), or (h, w, 1) if it is grey; ``sigma`` is in levels of 255."""
    shape = (*frame.shape[:2], 1 if is_gray else 3)
    return rng.standard_normal(shape, np.float32) * np.float32(sigma / 255)


def poisson_noise(frame: np.ndarray, rng: np.random.Generator, is_gray: bool) -> np.ndarray:
    """Returns noise of a frame, (h, w, 3), or (h, w, 1) if it is grey.

    White is counted as n photons, n being the number of levels in the frame, rounded up to a power of 2. A level x in
    [0, 1] then has noise of variance x / n.
    """
    levels = to_levels(frame)
    if is_gray:
        levels = cv2.cvtColor(levels, cv2.COLOR_RGB2GRAY)[..., None]
    num_levels = np.count_nonzero(np.bincount(levels.ravel(), minlength=256))
    photons = 2 ** int(np.ceil(np.log2(num_levels)))
    counts = rng.poisson(levels * (photons / 255))
    return (counts / photons - levels / 255).astype(np.float32)
