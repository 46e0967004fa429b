"""Players: the networks of a training, each with its average, optimiser and loss scaler."""

import copy
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vsr.config.schema import settings_of
from vsr.engine.optim.rules import ParameterRule, parameter_groups, training_of
from vsr.engine.options import TrainOptions
from vsr.engine.recompute import recompute_blocks
from vsr.utils.buffers import persistent_buffers
from vsr.utils.distributed import Place
from vsr.utils.errors import UserError
from vsr.utils.log import logger

# PyTorch 2.13 renamed DDP's option
DDP_OPTIONS = inspect.signature(DistributedDataParallel.__init__).parameters
SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in DDP_OPTIONS else "broadcast_buffers"
LARGEST_START = 0.05  # of an average's weights, from the start


class Turn(NamedTuple):
    """A player's losses of a batch; ``Trainer.losses`` yields one for each player, in order.

    Args:
        player: its name in ``Trainer.players``. The gradients reach only its parameters.
        losses: scalars by name; their sum is minimised.
        output: the network's output, for the PSNR in the log.
    """

    player: str
    losses: dict[str, Tensor]
    output: Tensor | None = None


def check_scalars(turn: Turn) -> None:
    """Raises a UserError for a loss that is not one number."""
    for name, value in turn.losses.items():
        if value.numel() != 1:
            raise UserError(f"the loss '{name}' returns {tuple(value.shape)}, not one number: return its mean")


class Player:
    """A network with its average, optimiser and loss scaler.

    Args:
        network: on any device, holding the weights to start from.
        optimizer: makes the optimiser of parameter groups; ``train.optim_g``.
        train: the ``train:`` section.
        place: the network is moved to its device.
        rules: for the network's parameters.
        scales_loss: whether losses are scaled, as fp16 needs.
        ema_decay: of the average of the weights; 0 keeps none.

    Attributes:
        model: the network, compiled and distributed; the losses call it. None until the first phase.
        parameters: the network's.
        fixed: names of the parameters that the network's constructor froze; they are never trained.
        buffers: persistent buffers of the network.
        base_rates: the groups' learning rates before warm-up and schedule.
        main_group: the group of the parameters that no rule gives another rate, whose rate is logged.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[..., Optimizer],
        train: TrainOptions,
        place: Place,
        rules: Sequence[ParameterRule] = (),
        scales_loss: bool = False,
        ema_decay: float = 0.0,
    ) -> None:
        self.fixed = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
        self.network = network.to(place.device)
        self.parameters = list(self.network.parameters())  # a walk through all modules, too slow for every step
        self.ema_decay = ema_decay
        self.ema = copy.deepcopy(self.network).requires_grad_(False) if ema_decay else None
        if train.checkpointing:
            recompute_blocks(self.network)
        self.scaler = GradScaler(place.device.type, enabled=scales_loss)
        rate = settings_of(optimizer)["lr"]
        self.optimizer = optimizer(parameter_groups(self.network, rate, rules))
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.main_group = self.base_rates.index(rate) if rate in self.base_rates else 0
        self.buffers = persistent_buffers(self.network)
        self.model: Any = None
        self.has_warned = False  # of an average that is mostly the weights at the start
        if train.channels_last is True:
            self.set_layout(True)

    def set_layout(self, channels_last: bool) -> None:
        """Orders the weights, and with them the features, channels last or not."""
        layout = torch.channels_last if channels_last else torch.contiguous_format
        for network in (self.network, self.ema):
            if network is not None:
                network.to(memory_format=layout)  # type: ignore[call-overload]  # not in PyTorch's stubs

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated: the average where one is kept."""
        return self.network if self.ema is None else self.ema

    def freeze(self, rules: Sequence[ParameterRule], iteration: int) -> int:
        """Freezes and unfreezes parameters for an iteration, counted from 1; returns how many numbers are trained.

        The network is in training mode then.
        """
        count = 0
        for name, parameter in self.network.named_parameters():
            is_trainable = training_of(rules, name, iteration).is_trainable and name not in self.fixed
            parameter.requires_grad_(is_trainable)
            if parameter.requires_grad:
                count += parameter.numel()
            else:
                parameter.grad = None
        self.model = self.network.train()
        return count

    def distribute(self, has_unused: bool) -> None:
        """Wraps the model in DDP; ``has_unused``: some rank's step leaves a trained parameter without gradient."""
        # each step begins with the main process's buffers, since a state holds no others
        options: dict[str, Any] = {"find_unused_parameters": has_unused, SYNC_BUFFERS: bool(self.buffers)}
        self.model = DistributedDataParallel(self.network, **options)

    def gradient_norm(self) -> Tensor:
        """Returns the norm of all gradients, after undoing the loss scale."""
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not gradients:  # a step of the other player alone
            return torch.zeros((), device=self.parameters[0].device)
        return nn.utils.get_total_norm(gradients)

    def warn_of_unused(self) -> bool:
        """Warns of trained parameters that a step left without gradient; False after a step of the other player."""
        trained = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        unused = [name for name, parameter in trained.items() if parameter.grad is None]
        if len(unused) == len(trained):
            return False
        if unused:
            more = f" and {len(unused) - 1} more" if len(unused) > 1 else ""
            text = "%s: %s%s got no gradient in the first step: the loss does not depend on them"
            logger.warning(text, type(self.network).__name__, unused[0], more)
        return True

    def warn_of_start(self, file: Path, iteration: int) -> None:
        """Warns once where much of the average still is the random weights at the start, after a short training."""
        share = self.ema_decay**iteration
        if self.ema is None or share <= LARGEST_START or self.has_warned:
            return
        self.has_warned = True
        text = (
            "the average in %s is still %.0f %% the random weights at the start (train.ema_decay %g): train longer "
            "or lower it; --weights %s --set path.param_key_g=params tests the weights without average"
        )
        logger.warning(text, file.name, 100 * share, self.ema_decay, file)

    def update(self, norm: Tensor, largest_norm: float | None) -> None:
        """Updates parameters and average by gradients of this norm, which are first clipped to ``largest_norm``."""
        if largest_norm is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, largest_norm, norm)
        self.scaler.step(self.optimizer)
        if self.ema is not None:
            update_average(self.ema, self.network, self.ema_decay)

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors and plain values to resume from; moments by name, since rules may group them otherwise."""
        names, optimizer = self._names(), self.optimizer.state_dict()
        return {
            "network": self.network.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "moments": {names[number]: value for number, value in optimizer["state"].items()},
            "groups": optimizer["param_groups"],
            "scaler": self.scaler.state_dict(),
            "base_rates": list(self.base_rates),
        }

    def load_state_dict(self, state: dict[str, Any], keep_rates: bool = True) -> None:
        """Loads what :meth:`state_dict` returned; its learning rates and optimiser options only if ``keep_rates``."""
        self.network.load_state_dict(state["network"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"] or state["network"])
        number_of = {name: number for number, name in enumerate(self._names())}
        moments = {number_of[name]: value for name, value in state["moments"].items()}
        groups = state["groups"] if keep_rates else self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if state["scaler"]:  # empty where the state was made without amp: fp16
            self.scaler.load_state_dict(state["scaler"])
        if keep_rates:
            self.base_rates = list(state["base_rates"])

    def _names(self) -> list[str]:
        """Returns the parameters' names in the order in which the optimiser numbers them."""
        names = {id(parameter): name for name, parameter in self.network.named_parameters()}
        return [names[id(parameter)] for group in self.optimizer.param_groups for parameter in group["params"]]


def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves ``average``'s parameters towards ``network``'s by ``1 - decay``; buffers are copied."""
    with torch.no_grad():
        get_ema_multi_avg_fn(decay)(list(average.parameters()), list(network.parameters()), 0)
        for own, theirs in zip(average.buffers(), network.buffers(), strict=True):
            own.copy_(theirs)
