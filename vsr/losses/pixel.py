"""Pixel losses: a distance between the restored frame and the ground truth, pixel by pixel."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from torch import Tensor

from vsr.registry import above, at_least, register

Reduction = Literal["mean", "sum"]
Weight = Annotated[float, at_least(0)]


@register("loss", "CharbonnierLoss")
def charbonnier_loss(
    sr: Tensor,
    gt: Tensor,
    /,
    loss_weight: Weight = 1.0,
    reduction: Reduction = "mean",
    eps: Annotated[float, above(0)] = 1e-12,
) -> Tensor:
    """Returns the Charbonnier loss, √((sr − gt)² + eps): an L1 loss that is smooth at zero.

    Args:
        sr: the restored frame, any shape.
        gt: the ground truth, the same shape.
        loss_weight: factor of the loss; 0 leaves a training to its other losses.
        reduction: over all values: ``mean``, or ``sum`` as EDVR was trained (the gradient then grows with the patch).
        eps: the square of the width of the smooth part, in squared units of the frame's range [0, 1]; with
            0 the gradient at zero error would not be finite.

    Raises:
        ValueError: the shapes differ.

    Reference: Lai et al., "Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution", CVPR 2017,
        equation 1, https://arxiv.org/abs/1704.03915
    Differs: eps stands for ε², as in the released EDVR.
    """
    return _loss(sr, gt, loss_weight, reduction, lambda x: torch.sqrt(x.square() + eps))


@register("loss", "L1Loss")
def l1_loss(sr: Tensor, gt: Tensor, /, loss_weight: Weight = 1.0, reduction: Reduction = "mean") -> Tensor:
    """Returns the mean or sum of the absolute difference; arguments as :func:`charbonnier_loss`."""
    return _loss(sr, gt, loss_weight, reduction, torch.abs)


@register("loss", "MSELoss")
def mse_loss(sr: Tensor, gt: Tensor, /, loss_weight: Weight = 1.0, reduction: Reduction = "mean") -> Tensor:
    """Returns the mean or sum of (sr − gt)²; arguments as :func:`charbonnier_loss`."""
    return _loss(sr, gt, loss_weight, reduction, torch.square)


@register("loss", "WeightedTVLoss")
def weighted_tv_loss(sr: Tensor, gt: Tensor, /, loss_weight: Weight = 1.0, reduction: Reduction = "mean") -> Tensor:
    """Returns the total variation of the restored frame: how much neighbouring pixels differ.

    It is the mean or sum of the absolute differences of rows, plus that of columns. It smooths; use it beside a loss
    that compares with the ground truth, which this one does not read.

    Args:
        sr: the restored frame, (…, h, w).
        gt: the ground truth, the same shape; its values are not read.
        loss_weight: factor of the loss.
        reduction: over all differences of rows and of columns: ``mean`` or ``sum``.

    Reference: BasicSR's loss of this name.
    """
    _check_shapes(sr, gt)
    rows = l1_loss(sr[..., 1:, :], sr[..., :-1, :], loss_weight, reduction)
    return rows + l1_loss(sr[..., 1:], sr[..., :-1], loss_weight, reduction)


def _loss(
    sr: Tensor, gt: Tensor, loss_weight: float, reduction: Reduction, distance: Callable[[Tensor], Tensor]
) -> Tensor:
    _check_shapes(sr, gt)
    values = distance(sr - gt)
    return loss_weight * (values.sum() if reduction == "sum" else values.mean())


def _check_shapes(sr: Tensor, gt: Tensor) -> None:
    if sr.shape != gt.shape:
        raise ValueError(f"the restored frame is {tuple(sr.shape)}, the ground truth {tuple(gt.shape)}: check `scale`")
