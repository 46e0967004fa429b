"""The keys of ``train:`` for the super-resolution trainers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor
from torch.optim import Optimizer

from vsr.registry import Component


@dataclass(frozen=True)
class TrainOptions:
    """How a network is trained.

    Args:
        total_iter: iterations (optimiser steps) of the whole training.
        optim_g: the optimiser.
        pixel_opt: the loss.
        scheduler: the learning rate over the iterations; constant without one.
        warmup_iter: iterations in which the rate rises from 0; -1 is none.
        tsa_iter: until this iteration only the fusion module is trained (EDVR's second stage), then everything.
        dcn_lr_mul: factor of the deformable convolutions' learning rate.
        ema_decay: keeps an exponential moving average of the weights with this decay, which is validated and saved
            beside them; 0 is off.
        clip_grad_norm: gradients of a larger norm are scaled down to it; null is off.
    """

    total_iter: int
    optim_g: Annotated[Callable[..., Optimizer], Component("optimizer")]
    pixel_opt: Annotated[Callable[[Tensor, Tensor], Tensor], Component("loss")]
    scheduler: Annotated[Callable[[int, float], float], Component("scheduler")] | None = None
    warmup_iter: int = -1
    tsa_iter: int | None = None
    dcn_lr_mul: float = 1.0
    ema_decay: float = 0.0
    clip_grad_norm: float | None = None

    def __post_init__(self) -> None:
        if self.total_iter < 1:
            raise ValueError(f"total_iter has to be at least 1, got {self.total_iter}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay has to be in [0, 1), got {self.ema_decay}")
        if self.dcn_lr_mul < 0:
            raise ValueError(f"dcn_lr_mul has to be at least 0, got {self.dcn_lr_mul}")
        if self.clip_grad_norm is not None and self.clip_grad_norm <= 0:
            raise ValueError(f"clip_grad_norm has to be above 0, got {self.clip_grad_norm}; null is off")
