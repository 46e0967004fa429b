"""The keys of ``train:``; FreezeOptions, GANOptions and NextFrameOptions add some."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vsr.config.schema import settings_of
from vsr.contracts import CleansFrames
from vsr.engine.optim.rules import ParameterRule, unmatched
from vsr.registry import Component, NotNegative, Positive, above, at_least, below
from vsr.utils.errors import refuse

Loss = Annotated[Callable[[Tensor, Tensor], Tensor], Component("loss")]


@dataclass(frozen=True)
class TrainOptions:
    """How a network is trained.

    Args:
        total_iter: iterations (optimiser steps) of the whole training.
        optim_g: the optimiser.
        losses: by name; their sum is minimised. Each is a function of (sr, gt), or a class whose instances are, such as
            a module. BasicSR's keys ``pixel_opt`` and ``perceptual_opt`` are read as ``pixel`` and ``perceptual``.
        cleaning_opt: of a network that cleans its input, RealBasicVSRNet, the loss of the cleaned frames against the
            ground truth reduced to their size, each pixel the mean of a square; it is logged as ``cleaning``.
        scheduler: the learning rate over the iterations; constant without one.
        warmup_iter: iterations over which the learning rate rises from 0; -1 is none.
        parameters: rules for parameters by name, ``[{match: spynet, lr_mul: 0.25, from_iter: 5000}]``; see
            ParameterRule. The last rule that matches and gives a field counts.
        ema_decay: decay of an exponential moving average (EMA) of the weights, which is validated, and saved beside
            them; 0 is off.
        accumulate: gradient accumulation: batches per optimiser step; the effective batch is that many times larger.
        clip_grad_norm: gradients of a larger norm are scaled down to it; null is off.
        amp: mixed precision: computes in 16 bits where that is safe (``bf16``, or ``fp16`` with loss scaling on a GPU);
            weights and the loss stay in 32, on a GPU also offsets. ``auto`` is bf16 where the device has units for it
            (of CPUs, AMX or AVX512-BF16), else ``off``. A resumed training keeps what it chose.
        compile: compiles the network with torch.compile; the first steps take minutes.
        channels_last: keeps features in channels-last order, which tensor cores and CPUs with AVX-512 prefer. ``auto``
            measures steps in both orders when a training begins; resuming keeps the choice.
        checkpointing: activation checkpointing: recomputes activations in the backward pass: less memory, about a third
            more time.
        tf32: lets a GPU multiply 32-bit numbers with 10 bits of mantissa (TF32); null keeps PyTorch's setting.
        deterministic: asks PyTorch for operators that give the same bits in every run, and warns where it has none.
        max_bad_steps: a step whose loss or gradient is not finite is skipped; this many in a row end the training.
        offset_freq: iterations between two checks of the deformable convolutions' offsets; 0 never checks.
        offset_limit: mean absolute offset, in pixels, above which alignment is lost.
        offset_guard: the answer: ``warn``; ``skip`` this step; ``rollback`` to the last good state, continue
            with other data and half the rate of the deformable convolutions; ``off``.
    """

    total_iter: Positive
    optim_g: Annotated[Callable[..., Optimizer], Component("optimizer")]
    losses: dict[str, Loss]
    cleaning_opt: Loss | None = None
    scheduler: Annotated[Callable[[int, float], float], Component("scheduler")] | None = None
    warmup_iter: int = -1
    parameters: list[ParameterRule] = field(default_factory=list)
    ema_decay: Annotated[float, at_least(0), below(1)] = 0.0
    accumulate: Positive = 1
    clip_grad_norm: Annotated[float, above(0)] | None = None
    amp: Literal["auto", "bf16", "fp16", "off"] = "off"
    compile: bool = False
    channels_last: bool | Literal["auto"] = False
    checkpointing: bool = False
    tf32: bool | None = None
    deterministic: bool = False
    max_bad_steps: Positive = 20
    offset_freq: NotNegative = 100
    offset_limit: Annotated[float, above(0)] = 50.0
    offset_guard: Literal["warn", "skip", "rollback", "off"] = "warn"

    def __post_init__(self) -> None:
        """Builds each part once with stand-in arguments, so that it can refuse its options."""
        mistakes = [] if self.losses else ["losses: empty; name one, such as pixel: {type: CharbonnierLoss}"]
        if "lr" not in settings_of(self.optim_g):
            mistakes.append("optim_g: it has no option `lr`, which the scheduler sets")
        parts: dict[str, Callable[..., Any]] = {"optim_g": lambda: self.optim_g([torch.zeros(1, requires_grad=True)])}
        if self.scheduler is not None:
            parts["scheduler"] = partial(self.scheduler, 0, 1e-3)
        losses = {f"losses.{name}": loss for name, loss in self.losses.items()}
        if self.cleaning_opt is not None:
            losses["cleaning_opt"] = self.cleaning_opt
        image = torch.zeros(1, 3, 8, 8)
        for key, loss in losses.items():
            parts[key] = partial(loss) if is_class(loss) else partial(loss, image, image)
        missing: list[str] = []
        for key, build in parts.items():
            try:
                build()
            except (FileNotFoundError, ValueError) as error:
                lines = missing if isinstance(error, FileNotFoundError) else mistakes
                lines += [f"{key}: {line}" for line in str(error).splitlines()]
        refuse(mistakes)
        if missing:
            raise FileNotFoundError("\n".join(missing))

    def notes(self) -> Iterator[str]:
        """Yields a schedule whose periods do not sum to ``total_iter``, or whose lowest rate is above the highest."""
        settings = settings_of(self.scheduler) if self.scheduler is not None else {}
        periods, lowest = settings.get("periods"), settings.get("eta_min")
        rate, total = settings_of(self.optim_g)["lr"], self.total_iter
        if periods is not None and sum(periods) != total:
            end = sum(periods)
            text = "the rate then stays at its lowest" if end < total else "the rate has not fallen when training ends"
            yield f"scheduler.periods end at iteration {end}, but train.total_iter is {total}: {text}"
        if isinstance(lowest, float) and lowest > rate:
            yield f"scheduler.eta_min is {lowest:g}, above train.optim_g.lr, {rate:g}: the rate rises"

    def mistakes(self, network: nn.Module) -> Iterator[tuple[str, str]]:
        """Yields the rules of ``parameters`` that match no parameter of the network, and a loss that it cannot have."""
        yield from unmatched(self.parameters, network)
        if self.cleaning_opt is not None and not isinstance(network, CleansFrames):
            yield "cleaning_opt", f"{type(network).__name__} does not clean its input: leave it out"


def is_class(loss: Callable[..., Any]) -> bool:
    """Returns whether a loss is a class whose instances are functions of (sr, gt)."""
    return inspect.isclass(loss.func if isinstance(loss, partial) else loss)


def built_loss(loss: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Returns a loss as a function of (sr, gt); a module is moved to the device and frozen."""
    built = loss() if is_class(loss) else loss
    return built.to(device).eval().requires_grad_(False) if isinstance(built, nn.Module) else built
