"""Pixel losses: a distance between the restored frame and the ground truth, pixel by pixel."""

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
    return _reduce(torch.sqrt(_difference(sr, gt).square() + eps), loss_weight, reduction)


@register("loss", "L1Loss")
def l1_loss(sr: Tensor, gt: Tensor, /, loss_weight: Weight = 1.0, reduction: Reduction = "mean") -> Tensor:
    """Returns the mean or sum of the absolute difference; arguments as :func:`charbonnier_loss`."""
    return _reduce(_difference(sr, gt).abs(), loss_weight, reduction)


@register("loss", "MSELoss")
def mse_loss(sr: Tensor, gt: Tensor, /, loss_weight: Weight = 1.0, reduction: Reduction = "mean") -> Tensor:
    """Returns the mean or sum of (sr − gt)²; arguments as :func:`charbonnier_loss`."""
    return _reduce(_difference(sr, gt).square(), loss_weight, reduction)


def _difference(sr: Tensor, gt: Tensor) -> Tensor:
    if sr.shape != gt.shape:
        raise ValueError(f"the restored frame is {tuple(sr.shape)}, the ground truth {tuple(gt.shape)}: check `scale`")
    return sr - gt


def _reduce(values: Tensor, loss_weight: float, reduction: Reduction) -> Tensor:
    return loss_weight * (values.sum() if reduction == "sum" else values.mean())
