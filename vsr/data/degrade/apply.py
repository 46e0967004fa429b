"""On-the-fly degradation: makes LQ frames of GT frames, in the loader's workers or on the network's device.

A degradation is a registered function ``(gt, rng, /, **options)``: ``gt`` (t, 3, H, W) float32 in [0, 1], ``rng`` a
NumPy generator of the sample's own. It returns LQ frames, (t, 3, H / scale, W / scale), float in [0, 1]; or a dict of
them as ``lq`` and, where it changes the ground truth, of that as ``gt``. The original is then kept as ``gt_original``.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vsr.contracts import DataSpec, Sample, SampleKey
from vsr.utils.errors import UserError

Degradation = Callable[[Tensor, np.random.Generator], Tensor | dict[str, Tensor]]

_STREAM = 1  # added to a key: random numbers that are independent of the crop's


@torch.no_grad()
def degraded(batch: Mapping[str, Any], keys: Tensor, degradation: Degradation) -> dict[str, Any]:
    """Returns the batch with ``lq`` made of ``gt`` (b, t, 3, H, W); the same keys give the same ``lq``.

    ``keys`` (b, 3) int64 are draw, epoch and seed of each sample.

    Raises:
        UserError: ``gt`` has no axis of frames, or the degradation returns no frames for it.
    """
    _check_gt(batch["gt"].shape[1:])
    pairs = zip(batch["gt"], keys.tolist(), strict=True)
    made = [_made_of(clip, SampleKey(*key), degradation) for clip, key in pairs]
    return _replaced(batch, {name: torch.stack([frames[name] for frames in made]) for name in made[0]})


@torch.no_grad()
def degraded_sample(sample: Sample, key: SampleKey, degradation: Degradation) -> Sample:
    """Returns a sample with ``lq`` made of ``gt``, (t, 3, H, W) uint8 or float32; as :func:`degraded`, of a batch."""
    _check_gt(np.shape(sample["gt"]))
    gt = torch.as_tensor(np.ascontiguousarray(sample["gt"]))
    clip = gt.float().div(255) if gt.dtype == torch.uint8 else gt
    return _replaced(sample, {name: value.numpy() for name, value in _made_of(clip, key, degradation).items()})


def _check_gt(shape: tuple[int, ...]) -> None:
    if len(shape) != 4:
        raise UserError(f"datasets.train.degradation needs gt of (t, 3, H, W) per sample, got {tuple(shape)}")


def _made_of(gt: Tensor, key: SampleKey, degradation: Degradation) -> dict[str, Tensor]:
    made = degradation(gt, np.random.default_rng([key.seed, key.epoch, key.draw, _STREAM]))
    frames = made if isinstance(made, dict) else {"lq": made}
    lq, sharp = frames.get("lq"), frames.get("gt", gt)
    if not isinstance(lq, Tensor) or lq.shape[:-2] != gt.shape[:-2]:
        got = tuple(lq.shape) if isinstance(lq, Tensor) else type(lq).__name__
        expected = f"expected a tensor ({gt.shape[0]}, {gt.shape[1]}, H / scale, W / scale)"
        raise UserError(f"datasets.train.degradation returns {got} for GT frames {tuple(gt.shape)}; {expected}")
    if sharp.shape != gt.shape:
        raise UserError(f"datasets.train.degradation makes GT frames {tuple(sharp.shape)} of {tuple(gt.shape)}")
    return {name: value.to(gt.device) for name, value in frames.items()}


def _replaced(batch: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    return {**batch, **({"gt_original": batch["gt"]} if "gt" in made else {}), **made}


def degradation_problem(data: DataSpec, is_given: bool) -> tuple[str, str] | None:
    """Returns the option of a training set that contradicts its degradation (``is_given``, or none), and why."""
    if is_given and data.gt_frames == "center":
        return "gt_frames", "center, but degradation makes every LQ frame of its GT frame: set gt_frames: all"
    if not is_given and not data.has_lq:
        return "dataroot_lq", "~, so that there are no LQ frames: name their folder, or a degradation that makes them"
    return None
