"""The training loop. Trainers are variants of it that override one method."""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vsr.options import LoggerOptions
from vsr.trainers import checkpoint
from vsr.trainers.optimizers import parameter_groups
from vsr.trainers.options import TrainOptions
from vsr.trainers.recorder import Recorder
from vsr.trainers.schedules import learning_rate
from vsr.utils.errors import UserError
from vsr.utils.log import logger
from vsr.utils.place import Place
from vsr.utils.signals import StopSignals

Batch = dict[str, Any]


class Run(NamedTuple):
    """What a trainer works with besides the network and its options.

    Args:
        place: device and rank.
        folder: the experiment's.
        logger: what is written, and how often.
        val_freq: iterations between validations; None validates at the end only.
        batches: from an iteration on, this process's batches, without end.
        validate: measures a network; None after the stop was requested. None where there is nothing to validate on.
        settings: the resolved options, kept in the state.
    """

    place: Place
    folder: Path
    logger: LoggerOptions
    val_freq: int | None
    batches: Callable[[int], Iterable[Batch]]
    validate: Callable[[nn.Module, StopSignals], dict[str, float] | None] | None
    settings: dict[str, Any]


class Trainer:
    """Trains a network; :meth:`fit` is the loop.

    Args:
        network: what is trained, already holding the weights it starts from.
        run: see Run.
        train: the ``train:`` section.
    """

    def __init__(self, network: nn.Module, run: Run, /, train: TrainOptions) -> None:
        self.run = run
        self.train = train
        self.network = network.to(run.place.device)
        self.ema = copy.deepcopy(self.network).requires_grad_(False) if train.ema_decay else None
        base_lr = train.optim_g.keywords["lr"]
        self.optimizer = train.optim_g(parameter_groups(self.network, base_lr, train.dcn_lr_mul))
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.model: nn.Module = self.network  # what the loss calls: the network, or DDP around it
        self.iteration = 0  # optimiser steps done
        self.last_validation = 0
        self.best: dict[str, float] = {}
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=run.place.device)  # since the last line of the log

    def is_trainable(self, name: str, iteration: int) -> bool:
        """Returns whether the parameter ``name`` is trained in this iteration, counted from 1."""
        return True

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the loss of a batch and what the network made of it."""
        sr = self.model(batch["lq"])
        return self.train.pixel_opt(sr, batch["gt"]), sr

    def fit(self) -> None:
        """Trains from the current iteration to ``total_iter``: steps, logs, validates and saves.

        Raises:
            UserError: the loss is no longer finite.
            SystemExit: stopped by Ctrl-C or SIGTERM, after saving a state.
        """
        total, every = self.train.total_iter, self.run.logger
        place, folder = self.run.place, self.run.folder
        with StopSignals() as stop, Recorder(folder, self.iteration, total, every, place.is_main) as record:
            if self.validation_is_due():  # a stop came between the last step and its validation
                self.validate(record, stop)
            clock = Clock()
            for batch in clock.wait_for(self.run.batches(self.iteration)) if self.iteration < total else ():
                self.iteration += 1
                self.enter_phase()
                self.set_learning_rate()
                loss, sr = self.step(to_device(batch, place.device))
                record.bar.update()
                if self.iteration % every.print_freq == 0:
                    self.log(record, loss, sr, batch, clock)
                if self.validation_is_due() and not stop:
                    self.validate(record, stop)
                    clock.start()
                if self.iteration % every.save_checkpoint_freq == 0 or self.iteration == total or stop:
                    self.save()
                if stop:
                    self.leave(stop)
                if self.iteration == total:
                    break
        logger.info("finished: %d iterations, weights in %s", total, self.weights_file())

    def enter_phase(self) -> None:
        """Freezes and unfreezes parameters for this iteration; follows from its number alone, also after resuming."""
        changed = False
        for name, parameter in self.network.named_parameters():
            trainable = self.is_trainable(name, self.iteration)
            changed |= parameter.requires_grad != trainable
            parameter.requires_grad_(trainable)
            if not trainable:
                parameter.grad = None
        if not any(parameter.requires_grad for parameter in self.network.parameters()):
            raise UserError(f"iteration {self.iteration}: every parameter is frozen; there is nothing to train")
        first = self.model is self.network
        if self.run.place.world_size > 1 and (changed or first):
            self.model = DistributedDataParallel(self.network)  # it notes what needs gradients once, when it is made
        if changed:
            count = sum(p.numel() for p in self.network.parameters() if p.requires_grad)
            logger.info("from iteration %d on, %s parameters are trained", self.iteration, f"{count:,}")

    def set_learning_rate(self) -> None:
        """Sets every group's rate for this iteration."""
        for group, base_lr in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = learning_rate(self.iteration - 1, base_lr, self.train.scheduler, self.train.warmup_iter)

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Makes one optimiser step and returns the loss and what the network made of the batch."""
        self.model.train()
        loss, sr = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.train.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.train.clip_grad_norm)
        self.optimizer.step()
        self.loss_sum += loss.detach()
        if self.ema is not None:
            update_average(self.ema, self.network, self.train.ema_decay)
        return loss.detach(), sr.detach()

    def log(self, record: Recorder, loss: Tensor, sr: Tensor, batch: Batch, clock: "Clock") -> None:
        """Writes a line: mean loss since the last one, PSNR of this batch, rate, speed, wait for data, time to go."""
        steps = self.run.logger.print_freq
        mean = self.loss_sum.item() / steps
        self.loss_sum.zero_()
        if not math.isfinite(mean):
            raise UserError(
                f"the loss is {mean} at iteration {self.iteration}: training diverged. Lower train.optim_g.lr or "
                "train.dcn_lr_mul, clip with train.clip_grad_norm, and go on from an earlier state (path.resume_state)"
            )
        summed = self.train.pixel_opt.keywords.get("reduction") == "sum"
        values = {
            "loss": mean,
            "loss_per_value": mean / sr.numel() if summed else mean,
            "psnr": psnr(sr, batch["gt"].to(sr.device)),
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        speed, share = clock.speed_and_wait(steps)
        record.scalars(self.iteration, {f"train/{name}": value for name, value in values.items()})
        togo = time.strftime("%H:%M:%S", time.gmtime((self.train.total_iter - self.iteration) / speed))
        record.bar.set_postfix_str(f"loss {values['loss_per_value']:.4g}, data wait {share:.0%}", refresh=False)
        logger.info(
            "iter %d/%d  loss %.4g (%.4g per value)  PSNR %.2f dB  lr %.3g  %.2f it/s  data wait %.0f %%  ETA %s",
            *(self.iteration, self.train.total_iter, mean, values["loss_per_value"], values["psnr"], values["lr"]),
            *(speed, 100 * share, togo),
        )

    def validation_is_due(self) -> bool:
        """Returns whether this iteration is to be validated and has not been yet."""
        if self.run.validate is None or self.iteration == self.last_validation:
            return False
        at_freq = self.run.val_freq is not None and self.iteration % self.run.val_freq == 0
        return self.iteration > 0 and (at_freq or self.iteration == self.train.total_iter)

    def validate(self, record: Recorder, stop: StopSignals) -> None:
        """Measures the network (its average, where one is kept) and notes what is best so far."""
        assert self.run.validate is not None, "validation_is_due says there is something to validate on"
        network = self.network if self.ema is None else self.ema
        network.eval()
        values = self.run.validate(network, stop)
        if values is None:
            return
        self.last_validation = self.iteration
        for name, value in values.items():
            self.best[name] = max(value, self.best.get(name, -math.inf))
            logger.info("validation %d  %s %.4f  (best %.4f)", self.iteration, name, value, self.best[name])
        record.scalars(self.iteration, {f"val/{name}": value for name, value in values.items()})

    def weights_file(self) -> Path:
        """Returns the file of this iteration's weights."""
        return self.run.folder / "models" / f"net_g_{self.iteration}.pth"

    def save(self) -> None:
        """Writes the weights, then the state to resume from."""
        if not self.run.place.is_main:
            return
        weights = {"params": self.network.state_dict()}
        if self.ema is not None:
            weights["params_ema"] = self.ema.state_dict()
        checkpoint.save(self.weights_file(), weights)
        checkpoint.save(self.run.folder / "training_states" / f"{self.iteration}.state", self.state())

    def leave(self, stop: StopSignals) -> None:
        """Ends the program after a stop was requested and the state saved."""
        logger.info("stopped by %s at iteration %d; --auto_resume goes on", stop.received.name, self.iteration)
        raise SystemExit(128 + stop.received)

    def state(self) -> dict[str, Any]:
        """Returns all that training goes on from: tensors and plain values."""
        return {
            "iteration": self.iteration,
            "last_validation": self.last_validation,
            "best": dict(self.best),
            "loss_sum": self.loss_sum,
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "random": random_state(self.run.place.device),
            "settings": self.run.settings,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state` returned.

        Raises:
            UserError: the state is another network's, or no state.
        """
        try:
            self.network.load_state_dict(state["network"])
            if self.ema is not None:
                self.ema.load_state_dict(state["ema"] or state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            restore_random_state(state["random"], self.run.place.device)
            self.iteration, self.last_validation = state["iteration"], state["last_validation"]
            self.best = dict(state["best"])
            self.loss_sum = state["loss_sum"].to(self.run.place.device)
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"the training state does not fit this network and optimiser: {reason}") from None


class Clock:
    """Times the loop: steps per second, and the share of the time spent waiting for data."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Starts measuring anew."""
        self.since, self.waited = time.perf_counter(), 0.0

    def wait_for(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yields the batches, timing the wait for each."""
        iterator = iter(batches)
        while True:
            before = time.perf_counter()
            batch = next(iterator)
            self.waited += time.perf_counter() - before
            yield batch

    def speed_and_wait(self, steps: int) -> tuple[float, float]:
        """Returns steps per second and the waiting share since the last call, and starts anew."""
        elapsed = max(time.perf_counter() - self.since, 1e-9)
        result = steps / elapsed, self.waited / elapsed
        self.start()
        return result


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Returns the batch with its tensors on the device."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}


def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves ``average``'s parameters towards ``network``'s by ``1 − decay``; buffers are copied."""
    with torch.no_grad():
        get_ema_multi_avg_fn(decay)(list(average.parameters()), list(network.parameters()), 0)
        for own, theirs in zip(average.buffers(), network.buffers(), strict=True):
            own.copy_(theirs)


def psnr(sr: Tensor, gt: Tensor) -> float:
    """Returns the PSNR in dB of frames in [0, 1], over the whole batch, unrounded."""
    return -10 * math.log10(max((sr.float().clamp(0, 1) - gt).square().mean().item(), 1e-12))


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Returns the state of torch's generators; samples draw from generators of their own (see vsr.data.sampler)."""
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def restore_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Sets torch's generators to a state that :func:`random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
