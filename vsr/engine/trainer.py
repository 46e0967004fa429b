"""A training: its networks, losses, validation and states; step.py makes its steps, loop.py repeats them.

A trainer of one's own overrides ``losses``; with several networks, also ``make_players``.
"""

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.config.schema import settings_of
from vsr.contracts import Task
from vsr.data.degrade.apply import degraded
from vsr.data.stream.loader import Batch
from vsr.engine import guards
from vsr.engine.optim.rules import ParameterRule
from vsr.engine.options import TrainOptions, built_loss
from vsr.engine.players import Player, Turn
from vsr.engine.precision import autocast_type, kept_type, set_switches
from vsr.engine.record import Recorder
from vsr.engine.run import Progress, Run, Validation
from vsr.engine.saving import checkpoints
from vsr.engine.saving.resume import same_validation
from vsr.engine.saving.weights import metadata
from vsr.utils import rng
from vsr.utils.buffers import share_buffers
from vsr.utils.distributed import over_ranks
from vsr.utils.errors import UserError
from vsr.utils.files import failing_is_told, sync
from vsr.utils.log import logger
from vsr.utils.signals import StopSignals


class Trainer:
    """Trains a network, which holds the weights to start from, step by step.

    Attributes:
        players: the networks in training, by name; ``g`` is the one that is validated and saved as ``net_g``.
        progress: how far the training has got.
    """

    task: ClassVar[Task] = "super-resolution"

    def __init__(self, network: nn.Module, run: Run, /, train: TrainOptions) -> None:
        self.run, self.train = run, train
        self.progress = Progress(sorted(run.loaded), run.weight_files)
        set_switches(train, run.place.device)
        self.autocast_type = autocast_type(train.amp, run.place.device)
        self.scales_loss = self.autocast_type is torch.float16
        self.channels_last = None if train.channels_last == "auto" else train.channels_last  # None until measured
        self.phase: int | None = None  # of the parameters that are trained, see phase_of
        self.players = self.make_players(network)
        self.guard = guards.OffsetGuard(self.players["g"].network, train, run.place)
        self.criteria = {name: built_loss(loss, run.place.device) for name, loss in train.losses.items()}
        self.cleaning = None if train.cleaning_opt is None else built_loss(train.cleaning_opt, run.place.device)
        losses = train.losses if train.cleaning_opt is None else {**train.losses, "cleaning": train.cleaning_opt}
        self.sums = {name for name, loss in losses.items() if settings_of(loss).get("reduction") == "sum"}

    def make_players(self, network: nn.Module) -> dict[str, Player]:
        """Returns the networks in training; ``g`` comes first."""
        train, scaled = self.train, self.scales_loss
        return {"g": Player(network, train.optim_g, train, self.run.place, train.parameters, scaled, train.ema_decay)}

    def rules(self) -> list[ParameterRule]:
        """Returns the rules for the parameters of ``g``."""
        return self.train.parameters

    def prepare(self, batch: Batch, keys: Tensor) -> Batch:
        """Returns the batch that the losses see: by default with ``lq`` made of ``gt``, if there is a degradation.

        Args:
            batch: on its device, pixels as float32 in [0, 1].
            keys: (b, 3) int64 on the CPU: draw, epoch and seed of each sample, which seed its random choices.
        """
        return batch if self.run.degradation is None else degraded(batch, keys, self.run.degradation)

    def losses(self, batch: Batch) -> Iterator[Turn]:
        """Yields the losses of a batch, a turn for each player; a turn's gradients are computed before the next one.

        Args:
            batch: ``lq`` (b, t, 3, h, w) and ``gt`` of the network's output: (b, 3, H, W), or of a network of clips
                (b, t, 3, H, W).
        """
        yield self.restored(batch)

    def restored(self, batch: Batch) -> Turn:
        """Returns the network's output for a batch, as float32, and its losses; those of a discriminator are not here.

        Raises:
            UserError: the output has not the shape of the ground truth.
        """
        model, lq, gt = self.players["g"].model, batch["lq"], batch["gt"]
        sr, cleaned = (model(lq), None) if self.cleaning is None else model(lq, return_lqs=True)
        sr = sr.float()
        if sr.shape != gt.shape:
            raise UserError(
                f"the network restores {tuple(sr.shape)}, the ground truth is {tuple(gt.shape)}: check network_g, and "
                "the data against `scale`"
            )
        losses = {name: loss(sr, gt) for name, loss in self.criteria.items()}
        if self.cleaning is not None and cleaned is not None:
            small = F.adaptive_avg_pool2d(gt.flatten(0, 1), cleaned.shape[-2:]).view_as(cleaned)
            losses["cleaning"] = self.cleaning(cleaned.float(), small)
        return Turn("g", losses, sr)

    def check_start(self) -> None:
        """Raises a UserError where the training cannot start; called once, also after resuming."""

    def frames(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the frames that an output stands for and the true ones, for the PSNR in the log."""
        return output, batch["gt"]

    @contextmanager
    def saved_on_mistake(
        self, go_back: Callable[[], None] = lambda: None, can_save: bool = True, validating: bool = False
    ) -> Generator[None]:
        """Saves a state before an unreadable frame or a lack of memory ends the training; names the remedy.

        Several processes save nothing, since only one of them notices. ``go_back`` restores the trainer of the last
        complete step; ``can_save`` is false where that is not possible.
        """
        try:
            yield
        except (UserError, RuntimeError, MemoryError) as error:
            iteration, place = self.progress.iteration, self.run.place
            lacks_memory = not isinstance(error, UserError) and guards.is_out_of_memory(error, place.device)
            if can_save and (lacks_memory or isinstance(error, UserError)) and place.world_size == 1:
                go_back()
                if self.progress.iteration:
                    self.save()
                    logger.info("state saved at iteration %d; --auto_resume resumes it", self.progress.iteration)
            if lacks_memory:
                raise guards.out_of_memory(iteration, self.run.folder, validating) from error
            raise

    def set_layout(self, channels_last: bool) -> None:
        """Orders the networks' weights channels last or not."""
        self.channels_last = channels_last
        for player in self.players.values():
            player.set_layout(channels_last)

    def roll_back(self) -> bool:
        """Goes back to the newest state with good offsets, other data and half the rates; False if there is none."""
        place, folder, samples = self.run.place, self.run.folder, self.progress.samples
        found = checkpoints.newest_state(folder, until=self.guard.ok_until)
        if found is None:
            logger.warning("there is no state to roll back to; going on")
            return False
        rates = {name: player.base_rates for name, player in self.players.items()}
        self.load_state_dict(found.state)
        self.progress.samples = samples
        self.guard.ok_until = self.progress.iteration - 1  # runaway offsets at the next check again: go back further
        for name, player in self.players.items():
            groups = zip(rates[name], player.optimizer.param_groups, strict=True)
            player.base_rates = [rate / 2 if group["deformable"] else rate for rate, group in groups]
        if place.is_main:
            checkpoints.forget_after(folder, self.progress.iteration)
        text = "rolled back to %s, %d iterations; deformable convolutions learn half as fast"
        logger.warning(text, found.file, self.progress.iteration)
        return True

    def mean_losses(self) -> dict[str, Tensor]:
        """Returns the sums of losses since the last line of the log, means over the ranks."""
        losses = self.progress.losses
        if not losses:
            return {}
        return dict(zip(losses, over_ranks(torch.stack(list(losses.values())), self.run.place, "mean"), strict=True))

    def validate(self, record: Recorder, stop: StopSignals) -> Validation | None:
        """Measures the network, or its average, and notes the best values so far; None if a stop was requested."""
        assert self.run.validate is not None, "validation_is_due checks it"
        progress, network, player = self.progress, self.players["g"].evaluated, self.players["g"]
        of = "" if player.ema is None else f"  of the average (EMA {player.ema_decay:g})"
        share_buffers(network, self.run.place)
        network.eval()
        result = self.run.validate(network, stop)
        if result is None:
            return None
        progress.last_validation = progress.iteration
        for name, value in result.values.items():
            better = np.fmin if name in result.lower_is_better else np.fmax
            progress.best[name] = float(better(value, progress.best.get(name, math.nan)))  # NaN loses
            text = "validation %d  %s %.4f  (best %.4f)%s"
            logger.info(text, progress.iteration, name, value, progress.best[name], of)
        record.scalars(progress.iteration, {f"val/{name}": value for name, value in result.values.items()})
        record.images(progress.iteration, result.example)
        return result

    def save(self, may_fail: bool = False) -> None:
        """Writes the state to resume from, then the weights; deletes those that are too old to be kept."""
        self.progress.losses = self.mean_losses()  # the main process saves for all
        if not self.run.place.is_main:
            return
        folder, logs = self.run.folder, self.run.logger
        needed = self.guard.ok_until if self.train.offset_guard == "rollback" else None
        with failing_is_told(may_fail and logs.on_failed_write == "go_on"):
            sync(folder / "metrics.csv")  # a resumed training continues these rows
            checkpoints.save(folder / "training_states" / f"{self.progress.iteration}.state", self.state_dict())
            self.save_weights()
            checkpoints.forget_old(folder, logs, needed)

    def save_weights(self) -> None:
        """Writes every player's weights: its average alone as ``.safetensors``, then both as ``.pth``."""
        for name, player in self.players.items():
            file = checkpoints.weights_file(self.run.folder, self.progress.iteration, name)
            about = metadata(self.run.settings if name == "g" else {}, self.progress.iteration)
            checkpoints.save_safetensors(file.with_suffix(".safetensors"), player.evaluated.state_dict(), about)
            average = {} if player.ema is None else {"params_ema": player.ema.state_dict()}
            checkpoints.save(file, {"params": player.network.state_dict(), **average})
            if not self.progress.loaded:
                player.warn_of_start(file, self.progress.iteration)

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that the next step depends on: tensors and plain values."""
        return {
            "format": checkpoints.STATE_FORMAT,
            "progress": dict(vars(self.progress)),
            "players": {name: player.state_dict() for name, player in self.players.items()},
            "guard": {"ok_until": self.guard.ok_until},
            "random": rng.get_state(self.run.place.device),
            "chosen": {  # by auto
                "amp": ("bf16" if self.autocast_type else "off") if self.train.amp == "auto" else None,
                "channels_last": self.channels_last if self.train.channels_last == "auto" else None,
            },
            "effective_batch": self.run.effective_batch,
            "training_set": self.run.training_set,
            "settings": self.run.settings,
        }

    def load_state_dict(self, state: dict[str, Any], keep_rates: bool = True) -> None:
        """Loads what :meth:`state_dict` returned; its learning rates replace the options' only if ``keep_rates``."""
        device = self.run.place.device
        try:
            for name, player in self.players.items():
                player.load_state_dict(state["players"][name], keep_rates)
            vars(self.progress).update(state["progress"])
            self.guard.ok_until = state["guard"]["ok_until"]
            rng.set_state(state["random"], device)
            chosen = state.get("chosen", {})  # nothing in states of former versions
            if self.train.amp == "auto" and chosen.get("amp") is not None:
                self.autocast_type = kept_type(chosen["amp"], self.autocast_type, device)
            if self.train.channels_last == "auto" and chosen.get("channels_last") is not None:
                self.set_layout(chosen["channels_last"])
        except (AttributeError, KeyError, RuntimeError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"the training state does not fit this network and optimiser: {reason}") from None
        self.progress.losses = {name: value.to(device) for name, value in self.progress.losses.items()}
        same = same_validation(state["settings"], self.run.settings)
        self.progress.best = dict(self.progress.best) if same else {}
