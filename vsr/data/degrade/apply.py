"""On-the-fly degradation: makes LQ frames of GT frames, on the device, before each batch's losses.

A degradation is a registered function ``(gt, rng, /, **options)``: ``gt`` (t, 3, H, W) float32 in [0, 1] on the device,
``rng`` a NumPy generator of the sample's own; it returns (t, 3, H / scale, W / scale), float in [0, 1].
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vsr.contracts import DataSpec
from vsr.utils.errors import UserError

Degradation = Callable[[Tensor, np.random.Generator], Tensor]

_STREAM = 1  # added to a key: random numbers that are independent of the crop's


@torch.no_grad()
def degraded(batch: Mapping[str, Any], keys: Tensor, degradation: Degradation) -> dict[str, Any]:
    """Returns the batch with ``lq`` made of ``gt`` (b, t, 3, H, W); the same keys give the same ``lq``.

    ``keys`` (b, 3) int64 are draw, epoch and seed of each sample.

    Raises:
        UserError: ``gt`` has no axis of frames, or the degradation returns no frames for it.
    """
    gt = batch["gt"]
    if gt.ndim != 5:
        raise UserError(f"datasets.train.degradation needs gt of (t, 3, H, W) per sample, got {tuple(gt.shape[1:])}")
    frames = []
    for clip, (draw, epoch, seed) in zip(gt, keys.tolist(), strict=True):
        lq = degradation(clip, np.random.default_rng([seed, epoch, draw, _STREAM]))
        if not isinstance(lq, Tensor) or lq.shape[:-2] != clip.shape[:-2]:
            got = tuple(lq.shape) if isinstance(lq, Tensor) else type(lq).__name__
            expected = f"expected a tensor ({clip.shape[0]}, {clip.shape[1]}, H / scale, W / scale)"
            raise UserError(f"datasets.train.degradation returns {got} for GT frames {tuple(clip.shape)}; {expected}")
        frames.append(lq)
    return {**batch, "lq": torch.stack(frames)}


def degradation_problem(data: DataSpec, is_given: bool) -> tuple[str, str] | None:
    """Returns the option of a training set that contradicts its degradation (``is_given``, or none), and why."""
    if is_given and data.gt_frames == "center":
        return "gt_frames", "center, but degradation makes every LQ frame of its GT frame: set gt_frames: all"
    if not is_given and not data.has_lq:
        return "dataroot_lq", "~, so that there are no LQ frames: name their folder, or a degradation that makes them"
    return None
