"""Chains of random degradations, of which the published one trains RealBasicVSR.

A step is a registered function ``(frames, rng, lq_size, /, **options)``: ``frames`` of one clip, a list of (h, w, 3)
float32 arrays, RGB, 1 is white; a NumPy generator of the sample's own; and the height and width that LQ frames have. It
returns as many frames, of any sizes and values.

Reference: Chan et al., "Investigating tradeoffs in real-world video super-resolution", CVPR 2022, section 3 and the
authors' options.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from vsr.data.degrade.compression import jpeg, to_levels, video_compression
from vsr.data.degrade.draws import Share, Walk, Weight
from vsr.data.degrade.filters import Directions, Kernels, blur, resize, resize_to_lq, unsharp_mask
from vsr.data.degrade.noise import noise
from vsr.registry import Component, Positive, Shared, register
from vsr.utils.errors import UserError

Step = Annotated[Callable[..., list[np.ndarray]], Component("degradation_step")]


@dataclass(frozen=True)
class Sharpening:
    """The unsharp mask of the GT frames.

    Args:
        kernel_size: side of its Gaussian, odd; sigma is 0.15 kernel_size + 0.35.
        weight: factor of the difference from the blurred frame.
        threshold: the smallest difference that is enhanced, in levels of 255.
    """

    kernel_size: Positive = 51
    weight: Weight = 0.5
    threshold: Weight = 10.0

    def __post_init__(self) -> None:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: {self.kernel_size} is even; the side of a kernel is odd, such as 51")


@register("degradation_step")
def sometimes(
    frames: list[np.ndarray],
    rng: np.random.Generator,
    lq_size: tuple[int, int],
    /,
    probability: Share,
    steps: list[Step],
) -> list[np.ndarray]:
    """Takes the steps in a share of the clips.

    Args:
        frames: of one clip.
        rng: decides, and draws what the steps draw.
        lq_size: of the steps.
        probability: the share of clips.
        steps: in order.
    """
    return in_order(frames, rng, lq_size, steps) if rng.random() < probability else frames


@register("degradation_step")
def in_random_order(
    frames: list[np.ndarray],
    rng: np.random.Generator,
    lq_size: tuple[int, int],
    /,
    groups: list[list[Step]],
) -> list[np.ndarray]:
    """Takes groups of steps in an order that is drawn per clip.

    Args:
        frames: of one clip.
        rng: draws the order, and what the steps draw.
        lq_size: of the steps.
        groups: lists of steps, ``[[{type: jpeg}], [{type: resize_to_lq}, {type: blur}]]``; each stays in order.
    """
    for number in rng.permutation(len(groups)):
        frames = in_order(frames, rng, lq_size, groups[number])
    return frames


def in_order(
    frames: list[np.ndarray], rng: np.random.Generator, lq_size: tuple[int, int], steps: Sequence[Step]
) -> list[np.ndarray]:
    """Returns the frames of a clip after the steps, in order."""
    for step in steps:
        frames = step(frames, rng, lq_size)
    return frames


LIGHT_BLUR = partial(blur, sigma=Walk(0.2, 1.5, 0.02))
RINGING = partial(blur, kernels=Kernels(sinc=1), cutoff=Walk(1.0472, 3.1416, 0.0628))
PUBLISHED: list[Step] = [
    partial(blur),
    partial(resize),
    partial(noise),
    partial(jpeg),
    partial(video_compression),
    partial(sometimes, probability=0.8, steps=[LIGHT_BLUR]),
    partial(resize, directions=Directions(up=0.3, down=0.4, keep=0.3), factor=Walk(0.3, 1.2, 0.03)),
    partial(noise, sigma=Walk(1, 25, 0.1), poisson_scale=Walk(0.05, 2.5, 0.005)),
    partial(jpeg),
    partial(
        in_random_order,
        groups=[
            [partial(video_compression)],
            [partial(resize_to_lq), partial(sometimes, probability=0.8, steps=[RINGING])],
        ],
    ),
]


@register("degradation")
def realbasicvsr(
    gt: Tensor,
    rng: np.random.Generator,
    /,
    scale: Annotated[Positive, Shared("scale")] = 4,
    sharpen: Sharpening | None = Sharpening(),
    steps: list[Step] | None = None,
) -> dict[str, Tensor]:
    """Degrades clips as RealBasicVSR's authors do: blur, resizing, noise, JPEG and video compression, twice.

    The parameters are drawn per clip; most of them then walk from frame to frame. The LQ frames are clipped to [0, 1]
    and rounded to 8 bits. It computes on the CPU.

    Args:
        gt: (t, 3, H, W) in [0, 1]; H and W are multiples of ``scale``.
        rng: makes every random choice.
        scale: GT size / LQ size; the options' top level ``scale`` is filled in.
        sharpen: the unsharp mask of the GT frames, of which LQ is made; the losses see the sharpened frames, and a
            discriminator the original ones. ~ leaves the frames as they are.
        steps: the chain, in order; ~ is the published one, which docs/data.md writes out.

    Raises:
        UserError: the last step leaves frames of another size than LQ's.
    """
    frames = list(gt.permute(0, 2, 3, 1).cpu().contiguous().numpy())
    if sharpen is not None:
        frames = [unsharp_mask(frame, **asdict(sharpen)) for frame in frames]
    h, w = gt.shape[-2] // scale, gt.shape[-1] // scale
    lq = in_order(frames, rng, (h, w), PUBLISHED if steps is None else steps)
    for frame in lq:
        if frame.shape != (h, w, 3):
            size = " x ".join(map(str, frame.shape[:2]))
            text = f"the last step leaves frames of {size}; LQ has {h} x {w}: add {{type: resize_to_lq}}"
            raise UserError(f"datasets.train.degradation.steps: {text}")
    made = {"lq": _planes([to_levels(frame) for frame in lq]).float().div(255)}
    return made if sharpen is None else {**made, "gt": _planes(frames)}


def _planes(frames: list[np.ndarray]) -> Tensor:
    """Returns frames (h, w, 3) as (t, 3, h, w)."""
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()
