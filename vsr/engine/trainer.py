"""The training loop. Trainers override what differs: what is trained, the loss, what is kept of a validation."""

import copy
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from vsr.config.schema import settings_of
from vsr.data.stream.device import Batch, to_device
from vsr.data.stream.prefetch import grouped
from vsr.engine import guards
from vsr.engine.buffers import persistent_buffers, share_buffers
from vsr.engine.criterion import criterion
from vsr.engine.ema import update_average
from vsr.engine.offsets import offsets_are_well, read_offsets, track_offsets
from vsr.engine.optim.optimizers import parameter_groups
from vsr.engine.optim.schedules import learning_rate
from vsr.engine.options import TrainOptions
from vsr.engine.precision import apply_switches, autocast_type
from vsr.engine.record import Recorder
from vsr.engine.run import Run, Validation
from vsr.engine.saving import checkpoints
from vsr.engine.saving.state import state_of
from vsr.utils.allocator import peak_memory
from vsr.utils.clock import Clock
from vsr.utils.distributed import any_rank, over_ranks
from vsr.utils.errors import UserError
from vsr.utils.files import failing_is_told
from vsr.utils.log import logger
from vsr.utils.signals import StopSignals


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
        layout = torch.channels_last if train.channels_last else torch.preserve_format
        self.network = network.to(run.place.device, memory_format=layout)  # type: ignore[call-overload]  # not in stubs
        self.ema = copy.deepcopy(self.network).requires_grad_(False) if train.ema_decay else None
        apply_switches(self.network, train, run.place.device)
        self.autocast_type = autocast_type(train.amp, run.place.device)
        self.scaler = GradScaler(run.place.device.type, enabled=self.autocast_type is torch.float16)
        self.optimizer = train.optim_g(self.parameter_groups())
        self.criterion = criterion(train.pixel_opt, run.place.device)
        self.loss_is_sum = settings_of(train.pixel_opt).get("reduction") == "sum"
        self.model: Any = None  # what the loss calls: the network, compiled and distributed; enter_phase makes it
        self.buffers = persistent_buffers(self.network)
        # what follows is the state beside weights, averages and moments
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.iteration = 0  # optimiser steps done
        self.samples = 0  # consumed, over all processes
        self.last_validation = 0
        self.best: dict[str, float] = {}
        self.loaded = set(run.loaded)
        self.bad_steps = 0  # in a row
        self.well_until = 0  # the last iteration whose offsets were looked at and found well
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=run.place.device)  # since the last line of the log
        self.loss_steps = 0  # steps in that sum

    def is_trainable(self, name: str, iteration: int) -> bool:
        """Returns whether the parameter ``name`` is trained in this iteration, counted from 1."""
        return True

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Returns the optimiser's groups: ``params``, ``lr``, and whether they are ``deformable`` convolutions'."""
        return parameter_groups(self.network, settings_of(self.train.optim_g)["lr"], self.train.dcn_lr_mul)

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the loss of a batch and what the network made of it."""
        sr, gt = self.model(batch["lq"]).float(), batch["gt"]
        if sr.shape != gt.shape:
            raise UserError(
                f"the network restores {tuple(sr.shape)}, the ground truth is {tuple(gt.shape)}: check network_g, and "
                "the data against `scale`"
            )
        return self.criterion(sr, gt), sr

    def frames(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the frames that an output stands for and those they should be, for the PSNR in the log."""
        return output, batch["gt"]

    def fit(self) -> None:
        """Trains from the current iteration to ``total_iter``: steps, logs, validates and saves.

        Raises:
            UserError: training diverged, memory ran out, or a frame cannot be read.
            SystemExit: stopped by Ctrl-C (code 130), or by another of ``STOPPING`` (code 0), after saving a state.
        """
        total, logs, place = self.train.total_iter, self.run.logger, self.run.place
        with StopSignals() as stop, Recorder(self.run.folder, self.iteration, total, logs, place.is_main) as record:
            if self.validation_is_due():  # the state was saved between a step and its validation
                record.rewind(self.iteration, validation=True)
                if self.validate_or_save(record, stop) is None:
                    stop.end_program(self.iteration)
                self.save(may_fail=self.iteration < total)
            if self.iteration >= total:
                logger.info("nothing to train: this is iteration %d, train.total_iter is %d", self.iteration, total)
                if place.is_main and not self.weights_file().exists():  # a stop came between the state and them
                    self.save_weights()
            clock, stream = Clock(), self.batches()
            try:
                while self.iteration < total:
                    batches = clock.wait_for(stream)
                    self.iteration += 1
                    self.samples += self.run.effective_batch
                    with self.saved_on_mistake(can_save=False):  # it may end within an update
                        self.enter_phase(batches[0])
                        self.set_learning_rate()
                        output, last, is_well = self.step(batches)
                    record.bar.update(self.iteration - record.bar.n)
                    if not is_well and guards.roll_back(self, record):
                        stream.close()
                        stream = self.batches()
                        continue
                    stopped = any_rank(bool(stop), place)
                    if self.iteration % logs.print_freq == 0:
                        self.log(record, output, last, clock)
                    saving_is_due = self.iteration % logs.save_checkpoint_freq == 0 or self.iteration == total
                    if self.validation_is_due() and not stopped:
                        if saving_is_due:
                            self.save(may_fail=True)  # whole frames need more memory than crops: validation may fail
                        self.validate_or_save(record, stop)
                        stopped = any_rank(bool(stop), place)
                        clock.start()
                    if saving_is_due or stopped:
                        self.save(may_fail=self.iteration < total and not stopped)
                    if stopped:
                        self.model = None
                        stop.end_program(self.iteration)
                    if self.iteration == total:
                        logger.info("finished: %d iterations, weights in %s", total, self.weights_file())
            finally:  # an error's traceback would keep it, and Python, at its end, wait for its workers
                stream.close()
        self.model = None  # what DDP holds has to go before the processes part

    def batches(self) -> Generator[list[Batch]]:
        """Yields the batches of each step from here on."""
        with self.saved_on_mistake():
            yield from grouped(self.run.batches(self.samples), self.train.accumulate)

    @contextmanager
    def saved_on_mistake(
        self, go_back: Callable[[], None] = lambda: None, can_save: bool = True, validating: bool = False
    ) -> Generator[None]:
        """Saves a state before an unreadable frame, or memory that runs out, ends the training; names the remedy.

        Of several processes only one knows of it, and saves nothing.

        Args:
            go_back: makes the trainer what it was after the last complete step.
            can_save: false where that is not possible.
            validating: rather than training, for the message.
        """
        try:
            yield
        except (UserError, RuntimeError, MemoryError) as error:
            iteration = self.iteration
            lacks_memory = guards.is_out_of_memory(error)
            if can_save and (lacks_memory or isinstance(error, UserError)) and self.run.place.world_size == 1:
                go_back()
                if self.iteration:
                    self.save()
                    logger.info("a state is saved at iteration %d; --auto_resume resumes it", self.iteration)
            if lacks_memory:
                raise guards.out_of_memory(iteration, self.run.folder, validating) from error
            raise

    def enter_phase(self, batch: Batch) -> None:
        """Freezes and unfreezes parameters for this iteration; follows from its number alone, also after resuming."""
        changed = self.model is None
        for name, parameter in self.network.named_parameters():
            trainable = self.is_trainable(name, self.iteration)
            changed |= parameter.requires_grad != trainable
            parameter.requires_grad_(trainable)
            if not trainable:
                parameter.grad = None
        if not changed:
            return
        count = sum(p.numel() for p in self.network.parameters() if p.requires_grad)
        if count == 0:
            raise UserError(f"iteration {self.iteration}: every parameter is frozen; there is nothing to train")
        logger.info("from iteration %d on, %s parameters are trained", self.iteration, f"{count:,}")
        self.model = self.network
        if self.run.place.world_size > 1:  # DDP notes what needs gradients once, when it is made
            unused = any_rank(self.try_step(batch), self.run.place)
            # each step begins with the main process's buffers, since a state holds no others
            options = {"find_unused_parameters": unused, "broadcast_buffers": bool(self.buffers)}
            self.model = DistributedDataParallel(self.network, **options)
            if not unused:
                self.try_step(batch)  # DDP orders its buckets, and sums, by its first step: none that counts be that
        if self.train.compile:
            logger.info("compiling: the first steps take minutes")
            torch.compiler.reset()  # or what was compiled for the phase before, with its gradients, is used again
            self.model = torch.compile(self.model)

    def try_step(self, batch: Batch) -> bool:
        """Makes a step that changes nothing; returns whether it left a trained parameter without gradient."""
        undo = guards.undoing(self.buffers, self.run.place.device)
        self.model.train()
        with self.autocast():
            loss, _ = self.loss(to_device(batch, self.run.place.device))
        loss.backward()
        unused = any(p.requires_grad and p.grad is None for p in self.network.parameters())
        self.optimizer.zero_grad(set_to_none=True)
        undo()
        return unused

    def set_learning_rate(self) -> None:
        """Sets every group's rate for this iteration."""
        for group, base_lr in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = learning_rate(self.iteration - 1, base_lr, self.train.scheduler, self.train.warmup_iter)

    def step(self, batches: list[Batch]) -> tuple[Tensor, Batch, bool]:
        """Makes one optimiser step, or skips it if loss, gradient or offsets are not as they should be.

        Returns:
            What the network made of the last batch, that batch, and whether the offsets are well.
        """
        self.model.train()
        looks = self.looks_at_offsets()
        track_offsets(self.network, looks)
        self.optimizer.zero_grad(set_to_none=True)
        undo = guards.undoing(self.buffers, self.run.place.device)

        def go_back() -> None:
            undo()
            self.optimizer.zero_grad(set_to_none=True)
            self.iteration -= 1
            self.samples -= self.run.effective_batch

        with self.saved_on_mistake(go_back):  # parameters, averages and moments have not changed yet
            loss, output, batch = self.backward(batches)
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        is_bad = any_rank(not math.isfinite(float(loss + norm)), self.run.place)
        is_well = not looks or offsets_are_well(read_offsets(self.network, self.run.place), self.iteration, self.train)
        if looks and is_well:
            self.well_until = self.iteration
        if is_bad:
            self.count_bad_step(batches, float(loss), float(norm))
        if is_bad or not (is_well or self.train.offset_guard == "warn"):
            undo()
        else:
            self.update(loss, norm)
        self.scaler.update()
        return output.detach(), batch, is_well

    def backward(self, batches: list[Batch]) -> tuple[Tensor, Tensor, Batch]:
        """Adds up the gradients of a step.

        Returns:
            Its loss, what the network made of the last batch, and that batch on its device.
        """
        loss = torch.zeros_like(self.loss_sum)
        for number, batch in enumerate(batches, start=1):
            batch = to_device(batch, self.run.place.device)
            last = number == len(batches) or self.run.place.world_size == 1
            with nullcontext() if last else self.model.no_sync():
                with self.autocast():
                    part, output = self.loss(batch)
                part = part * self.loss_factor()
                self.scaler.scale(part).backward()
            loss += part.detach()
        return loss, output, batch

    def update(self, loss: Tensor, norm: Tensor) -> None:
        """Changes the parameters and their average by gradients that are as they should be, of this norm."""
        if self.train.clip_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self.network.parameters(), self.train.clip_grad_norm, norm)
        self.scaler.step(self.optimizer)
        if self.ema is not None:
            update_average(self.ema, self.network, self.train.ema_decay)
        self.bad_steps = 0
        self.loss_sum += loss
        self.loss_steps += 1

    def count_bad_step(self, batches: list[Batch], loss: float, norm: float) -> None:
        """Warns of a step whose loss or gradient is not finite; too many in a row end the training.

        Raises:
            UserError: that was one too many. Batches and weights are saved, to be looked at.
        """
        self.bad_steps += 1
        keys = ", ".join(str(key) for batch in batches for key in batch.get("key", []))
        text = "iteration %d skipped: loss %g, gradient norm %g on %s (%d in a row)"
        logger.warning(text, self.iteration, loss, norm, keys, self.bad_steps)
        if self.bad_steps >= self.train.max_bad_steps and not guards.still_scaling(self.scaler, loss):
            file = self.run.folder / f"bad_batch_{self.iteration}_rank{self.run.place.rank}.pth"
            checkpoints.save(file, {"batches": batches, "network": self.network.state_dict()})
            raise UserError(guards.DIVERGED.format(steps=self.bad_steps, file=file))

    def autocast(self) -> torch.autocast:
        """Returns the context in which losses are computed."""
        return torch.autocast(self.run.place.device.type, self.autocast_type, enabled=self.autocast_type is not None)

    def loss_factor(self) -> float:
        """Returns what a part of the effective batch counts; DDP takes means of gradients over the processes."""
        return float(self.run.place.world_size) if self.loss_is_sum else 1 / self.train.accumulate

    def looks_at_offsets(self) -> bool:
        """Returns whether this iteration looks at the offsets."""
        freq = self.train.offset_freq
        return self.train.offset_guard != "off" and freq > 0 and self.iteration % freq == 0

    def log(self, record: Recorder, output: Tensor, batch: Batch, clock: Clock) -> None:
        """Writes a line: mean loss since the last one, PSNR of this batch, rate, speed, wait for data, time to go."""
        place = self.run.place
        loss_sum = over_ranks(self.loss_sum, place, "mean").item()
        loss = loss_sum / self.loss_steps if self.loss_steps else math.nan
        self.loss_sum.zero_()
        self.loss_steps = 0
        frame, truth = self.frames(output.float(), batch)
        error = over_ranks((frame.clamp(0, 1) - truth).square().mean(), place, "mean").item()
        num_values = output.numel() * place.world_size * self.train.accumulate if self.loss_is_sum else 1
        values = {
            "loss": loss,
            "loss_per_value": loss / num_values,
            "psnr": -10 * math.log10(max(error, 1e-12)),
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        record.scalars(self.iteration, {f"train/{name}": value for name, value in values.items()})
        if self.looks_at_offsets():
            for layer, mean, maximum in read_offsets(self.network, place):
                record.curves(self.iteration, {f"offsets_mean/{layer}": mean, f"offsets_max/{layer}": maximum})
        speed, wait = clock.speed_and_wait()
        record.line(self.iteration, self.train.total_iter, values, speed, wait, peak_memory(place.device))

    def validation_is_due(self) -> bool:
        """Returns whether this iteration is to be validated and has not been yet."""
        if self.run.validate is None or self.iteration == self.last_validation:
            return False
        at_freq = self.run.val_freq is not None and self.iteration % self.run.val_freq == 0
        return at_freq or self.iteration == self.train.total_iter

    def validate(self, record: Recorder, stop: StopSignals) -> Validation | None:
        """Measures the network (its average, where one is kept) and notes what is best so far.

        Returns:
            What was measured; None if a stop was requested meanwhile.
        """
        assert self.run.validate is not None, "validation_is_due says there is something to validate on"
        network = self.network if self.ema is None else self.ema
        share_buffers(network, self.run.place)
        network.eval()
        result = self.run.validate(network, stop)
        if result is None:
            return None
        self.last_validation = self.iteration
        for name, value in result.values.items():
            better = np.fmin if name in result.lower_is_better else np.fmax
            self.best[name] = float(better(value, self.best.get(name, math.nan)))  # NaN loses
            logger.info("validation %d  %s %.4f  (best %.4f)", self.iteration, name, value, self.best[name])
        record.scalars(self.iteration, {f"val/{name}": value for name, value in result.values.items()})
        record.images(self.iteration, result.example)
        return result

    def validate_or_save(self, record: Recorder, stop: StopSignals) -> Validation | None:
        """Validates; where frames cannot be read, or memory is short, a state is saved and the remedy named."""
        with self.saved_on_mistake(validating=True):
            return self.validate(record, stop)

    def weights_file(self) -> Path:
        """Returns the file of this iteration's weights."""
        return self.run.folder / "models" / f"net_g_{self.iteration}.pth"

    def save(self, may_fail: bool = False) -> None:
        """Writes the state to resume from, then the weights; deletes what is too old to be kept."""
        self.loss_sum = over_ranks(self.loss_sum, self.run.place, "mean")  # the main process saves for all
        if not self.run.place.is_main:
            return
        folder, logs = self.run.folder, self.run.logger
        needed = self.well_until if self.train.offset_guard == "rollback" else None
        with failing_is_told(may_fail and logs.on_failed_write == "go_on"):
            checkpoints.save(folder / "training_states" / f"{self.iteration}.state", state_of(self))
            self.save_weights()
            checkpoints.forget_old_states(folder, logs.keep_states, logs.keep_state_every, needed)
            checkpoints.forget_old_weights(folder, logs.keep_weights)

    def save_weights(self) -> None:
        """Writes the weights, and their average where one is kept."""
        weights = {"params": self.network.state_dict()}
        if self.ema is not None:
            weights["params_ema"] = self.ema.state_dict()
        checkpoints.save(self.weights_file(), weights)
