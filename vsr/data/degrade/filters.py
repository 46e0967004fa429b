"""Blur, resizing and sharpening of frames, (h, w, 3) float32 RGB, 1 is white.

The steps of a chain return a list of frames: see :mod:`vsr.data.degrade.chain`.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from vsr.data.degrade.draws import OddSizes, Walk, Weight, Weights, walk
from vsr.data.degrade.kernels import gaussian, plateau, sinc
from vsr.registry import register

FILTERS = {"bilinear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "bicubic": cv2.INTER_CUBIC}
LARGE_KERNEL = 13  # from this side on, the cutoff of a sinc kernel may be lower


@dataclass(frozen=True)
class Kernels(Weights):
    """Kinds of kernels with their weights; a kind that is not named has weight 0.

    Args:
        iso: Gaussian, round.
        aniso: Gaussian, elliptic.
        generalized_iso: generalised Gaussian, round.
        generalized_aniso: generalised Gaussian, elliptic.
        plateau_iso: flat in the middle, round.
        plateau_aniso: flat in the middle, elliptic.
        sinc: ideal low-pass filter.
    """

    iso: Weight = 0.0
    aniso: Weight = 0.0
    generalized_iso: Weight = 0.0
    generalized_aniso: Weight = 0.0
    plateau_iso: Weight = 0.0
    plateau_aniso: Weight = 0.0
    sinc: Weight = 0.0


@dataclass(frozen=True)
class Directions(Weights):
    """Whether a clip is enlarged, with weights.

    Args:
        up: enlarges.
        down: shrinks.
        keep: begins with the size that there is.
    """

    up: Weight = 0.0
    down: Weight = 0.0
    keep: Weight = 0.0


@dataclass(frozen=True)
class Filters(Weights):
    """Filters of resizing, with weights.

    Args:
        bilinear: two pixels along each axis.
        area: means over pixels' areas, the only one that does not alias when it shrinks.
        bicubic: four pixels along each axis, a = -0.75.
    """

    bilinear: Weight = 0.0
    area: Weight = 0.0
    bicubic: Weight = 0.0


ALL_FILTERS = Filters(1, 1, 1)
ALL_KERNELS = Kernels(0.405, 0.225, 0.108, 0.027, 0.108, 0.027, 0.1)


@register("degradation_step")
def blur(
    frames: list[np.ndarray],
    rng: np.random.Generator,
    lq_size: tuple[int, int],
    /,
    kernels: Kernels = ALL_KERNELS,
    size: OddSizes = OddSizes(7, 21),
    sigma: Walk = Walk(0.2, 3, 0.02),
    angle_step: Weight = 0.314,
    beta_gaussian: Walk = Walk(0.5, 4, 0.05),
    beta_plateau: Walk = Walk(1, 2, 0.1),
    cutoff: Walk | None = None,
) -> list[np.ndarray]:
    """Blurs each frame with a kernel of the clip's kind and size, whose parameters walk.

    Args:
        frames: of one clip.
        rng: draws the parameters.
        lq_size: not used.
        kernels: kinds of kernels, ``{iso: 1, sinc: 0.5}``, with their weights.
        size: sides of the kernels in pixels, odd.
        sigma: standard deviations along both axes of a kernel, in pixels.
        angle_step: the largest change of an elliptic kernel's angle between frames, in radians; the first is any.
        beta_gaussian: exponent of generalised Gaussians.
        beta_plateau: exponent of plateau kernels.
        cutoff: of sinc kernels, in radians per pixel, pi at most; ~ is from pi / 3 (of sides below 13), or pi / 5, to
            pi, in steps of 0.0628.
    """
    kind, side, count = kernels.draw(rng), size.draw(rng), len(frames)
    if kind == "sinc":
        lowest = math.pi / (3 if side < LARGE_KERNEL else 5)
        cutoffs = (cutoff or Walk(lowest, math.pi, 0.0628)).values(rng, count)
        made = [sinc(side, value) for value in cutoffs]
    else:
        family, _, form = kind.rpartition("_")
        first = sigma.values(rng, count)
        second = first if form == "iso" else sigma.values(rng, count)
        angles = walk(rng, -math.pi, math.pi, angle_step, count)
        betas = {"generalized": beta_gaussian, "plateau": beta_plateau}.get(family, Walk(1, 1)).values(rng, count)
        make = plateau if family == "plateau" else gaussian
        numbers = zip(first, second, angles, betas, strict=True)
        made = [make(side, (x, y), angle, beta) for x, y, angle, beta in numbers]
    return [cv2.filter2D(frame, -1, kernel) for frame, kernel in zip(frames, made, strict=True)]


@register("degradation_step")
def resize(
    frames: list[np.ndarray],
    rng: np.random.Generator,
    lq_size: tuple[int, int],
    /,
    directions: Directions = Directions(up=0.2, down=0.7, keep=0.1),
    factor: Walk = Walk(0.15, 1.5, 0.015),
    filters: Filters = ALL_FILTERS,
) -> list[np.ndarray]:
    """Resizes each frame by a factor that walks, to even sizes: frames of a clip may then differ in size.

    Args:
        frames: of one clip.
        rng: draws the parameters.
        lq_size: not used.
        directions: whether the first factor is above 1, below 1, or 1, with weights.
        factor: size after / size before.
        filters: with weights, one drawn per clip.
    """
    direction, how = directions.draw(rng), FILTERS[filters.draw(rng)]
    start = {
        "up": rng.uniform(1, max(factor.high, 1)),
        "down": rng.uniform(min(factor.low, 1), 1),
        "keep": 1.0,
    }[direction]
    resized = []
    for frame, value in zip(frames, factor.values(rng, len(frames), float(start)), strict=True):
        h, w = (max(int(side * value / 2) * 2, 2) for side in frame.shape[:2])
        resized.append(cv2.resize(frame, (w, h), interpolation=how))
    return resized


@register("degradation_step")
def resize_to_lq(
    frames: list[np.ndarray],
    rng: np.random.Generator,
    lq_size: tuple[int, int],
    /,
    filters: Filters = ALL_FILTERS,
) -> list[np.ndarray]:
    """Resizes each frame to the size that LQ frames have.

    Args:
        frames: of one clip.
        rng: draws the filter.
        lq_size: (h, w).
        filters: with weights, one drawn per clip.
    """
    how = FILTERS[filters.draw(rng)]
    return [cv2.resize(frame, lq_size[::-1], interpolation=how) for frame in frames]


def unsharp_mask(frame: np.ndarray, kernel_size: int = 51, weight: float = 0.5, threshold: float = 10) -> np.ndarray:
    """Returns a frame with its edges and textures enhanced, clipped to [0, 1].

    The difference from a blurred frame is added where it is large; the mask of these places is blurred likewise.
    Reference: Wang et al., "Real-ESRGAN", ICCVW 2021, section 4.1 ("sharp ground-truths").

    Args:
        frame: (h, w, 3) float32 in [0, 1].
        kernel_size: side of the Gaussian, odd; its sigma is 0.15 kernel_size + 0.35, 8 of 51.
        weight: factor of the difference.
        threshold: the smallest difference that counts, in levels of 255.
    """
    size = (kernel_size, kernel_size)
    difference = frame - cv2.GaussianBlur(frame, size, 0)
    mask = cv2.GaussianBlur((np.abs(difference) * 255 > threshold).astype(np.float32), size, 0)
    sharp = np.clip(frame + weight * difference, 0, 1)
    return mask * sharp + (1 - mask) * frame
