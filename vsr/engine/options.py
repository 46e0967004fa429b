"""The keys of ``train:``; FreezeOptions and NextFrameOptions add some."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from torch import Tensor
from torch.optim import Optimizer

from vsr.config.schema import settings_of
from vsr.engine.optim.rules import ParameterRule
from vsr.registry import Component

Loss = Annotated[Callable[[Tensor, Tensor], Tensor], Component("loss")]


@dataclass(frozen=True)
class TrainOptions:
    """How a network is trained.

    Args:
        total_iter: iterations (optimiser steps) of the whole training.
        optim_g: the optimiser.
        losses: by name; their sum is minimised. Each is a function of (sr, gt), or a class whose instances are, such as
            a module. ``pixel_opt``, BasicSR's key, is read as the loss ``pixel``.
        scheduler: the learning rate over the iterations; constant without one.
        warmup_iter: iterations over which the learning rate rises from 0; -1 is none.
        parameters: rules for parameters by name, ``[{match: spynet, lr_mul: 0.25, from_iter: 5000}]``; see
            ParameterRule. The last rule that matches and gives a field counts.
        ema_decay: decay of an exponential moving average (EMA) of the weights, which is validated, and saved beside
            them; 0 is off.
        accumulate: gradient accumulation: batches per optimiser step; the effective batch is that many times larger.
        clip_grad_norm: gradients of a larger norm are scaled down to it; null is off.
        amp: mixed precision: computes in 16 bits where that is safe (``bf16``, or ``fp16`` with loss scaling on a GPU);
            weights, offsets and the loss stay in 32. ``auto`` is bf16 on a GPU that has it, else ``off``.
        compile: compiles the network with torch.compile; the first steps take minutes.
        channels_last: keeps features in channels-last order, which tensor cores prefer.
        checkpointing: activation checkpointing: recomputes activations in the backward pass: less memory, about a third
            more time.
        tf32: lets a GPU multiply 32-bit numbers with 10 bits of mantissa (TF32); null keeps PyTorch's setting.
        deterministic: asks PyTorch for operators that give the same bits in every run, and warns where it has none.
        max_bad_steps: a step whose loss or gradient is not finite is skipped; this many in a row end the training.
        offset_freq: iterations between two checks of the deformable convolutions' offsets; 0 never checks.
        offset_limit: mean absolute offset, in pixels, above which alignment is lost.
        offset_guard: what to do then: ``warn``; ``skip`` this step; ``rollback`` to the last good state, continue
            with other data and half the rate of the deformable convolutions; ``off``.
    """

    total_iter: int
    optim_g: Annotated[Callable[..., Optimizer], Component("optimizer")]
    losses: dict[str, Loss]
    scheduler: Annotated[Callable[[int, float], float], Component("scheduler")] | None = None
    warmup_iter: int = -1
    parameters: list[ParameterRule] = field(default_factory=list)
    ema_decay: float = 0.0
    accumulate: int = 1
    clip_grad_norm: float | None = None
    amp: Literal["auto", "bf16", "fp16", "off"] = "off"
    compile: bool = False
    channels_last: bool = False
    checkpointing: bool = False
    tf32: bool | None = None
    deterministic: bool = False
    max_bad_steps: int = 20
    offset_freq: int = 100
    offset_limit: float = 50.0
    offset_guard: Literal["warn", "skip", "rollback", "off"] = "warn"

    def __post_init__(self) -> None:
        if "lr" not in settings_of(self.optim_g):
            raise ValueError("optim_g has no option `lr`, which the scheduler sets")
        for name, minimum in (("total_iter", 1), ("accumulate", 1), ("max_bad_steps", 1), ("offset_freq", 0)):
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} has to be at least {minimum}, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay has to be in [0, 1), got {self.ema_decay}")
        if not self.losses:
            raise ValueError("losses is empty: name one, such as pixel: {type: CharbonnierLoss}")
        if self.clip_grad_norm is not None and self.clip_grad_norm <= 0:
            raise ValueError(f"clip_grad_norm has to be above 0, got {self.clip_grad_norm}; null is off")
        if self.offset_limit <= 0:
            raise ValueError(f"offset_limit has to be above 0, got {self.offset_limit}")
