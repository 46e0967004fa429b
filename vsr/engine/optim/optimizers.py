"""Optimisers, registered under the names that option files use."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from vsr.engine.optim.schedules import Rate
from vsr.registry import register


@register("optimizer", "Adam")
def adam(
    groups: Iterable[Any],
    /,
    lr: Rate,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    fused: bool | None = None,
) -> Optimizer:
    """Returns Adam.

    Args:
        groups: parameters or parameter groups.
        lr: the learning rate.
        weight_decay: L2 penalty added to the gradient.
        betas: decay of the running means of the gradient and of its square; EDVR was trained with (0.9, 0.99).
        eps: added to the denominator.
        fused: one kernel for all parameters; null lets PyTorch choose.

    Reference: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, https://arxiv.org/abs/1412.6980
    """
    return torch.optim.Adam(groups, lr=lr, weight_decay=weight_decay, betas=betas, eps=eps, fused=fused)


@register("optimizer", "AdamW")
def adamw(
    groups: Iterable[Any],
    /,
    lr: Rate,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    fused: bool | None = None,
) -> Optimizer:
    """Returns AdamW, Adam with decoupled weight decay; arguments as :func:`adam`.

    Reference: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019,
        https://arxiv.org/abs/1711.05101
    """
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, betas=betas, eps=eps, fused=fused)
