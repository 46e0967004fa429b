"""Players: the networks of a training, each with its average, optimiser and loss scaler."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vsr.config.schema import settings_of
from vsr.engine.optim.rules import ParameterRule, check_rules, parameter_groups, training_of
from vsr.engine.options import TrainOptions
from vsr.engine.recompute import recompute_blocks
from vsr.utils import rng
from vsr.utils.buffers import persistent_buffers, remember
from vsr.utils.distributed import Place
from vsr.utils.errors import UserError

# PyTorch 2.13 renamed DDP's option
SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel.__init__).parameters
)


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


class Player:
    """A network with its average, optimiser and loss scaler.

    Args:
        network: on any device, holding the weights to start from.
        optimizer: makes the optimiser of parameter groups; ``train.optim_g``.
        train: the ``train:`` section.
        place: device and rank.
        rules: for the network's parameters.
        scales_loss: whether losses are scaled, as fp16 needs.
        ema_decay: of the average of the weights; 0 keeps none.

    Attributes:
        model: the network, compiled and distributed; the losses call it. None until the first phase.
        buffers: persistent buffers of the network.
        base_rates: the groups' learning rates before warm-up and schedule.

    Raises:
        UserError: a rule matches no parameter.
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
        check_rules(rules, network)
        layout = torch.channels_last if train.channels_last else torch.preserve_format
        self.network = network.to(place.device, memory_format=layout)  # type: ignore[call-overload]  # not in stubs
        self.ema_decay = ema_decay
        self.ema = copy.deepcopy(self.network).requires_grad_(False) if ema_decay else None
        if train.checkpointing:
            recompute_blocks(self.network)
        self.scaler = GradScaler(place.device.type, enabled=scales_loss)
        self.optimizer = optimizer(parameter_groups(self.network, settings_of(optimizer)["lr"], rules))
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.buffers = persistent_buffers(self.network)
        self.model: Any = None

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated: the average where one is kept."""
        return self.network if self.ema is None else self.ema

    @property
    def has_unused(self) -> bool:
        """Whether a trained parameter has no gradient."""
        return any(p.requires_grad and p.grad is None for p in self.network.parameters())

    def freeze(self, rules: Sequence[ParameterRule], iteration: int) -> int:
        """Freezes and unfreezes parameters for an iteration, counted from 1; returns how many numbers are trained."""
        count = 0
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(training_of(rules, name, iteration).is_trainable)
            if parameter.requires_grad:
                count += parameter.numel()
            else:
                parameter.grad = None
        self.model = self.network
        return count

    def set_learning_rate(self, rate: Callable[[float], float]) -> None:
        """Sets every group's rate to a function of its base rate."""
        for group, base_rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate(base_rate)

    def backward(self, loss: Tensor, is_alone: bool) -> None:
        """Adds the gradients of a loss to this player's trained parameters; of no others, unless it is alone."""
        scaled = self.scaler.scale(loss)
        if is_alone:
            scaled.backward()
        else:
            scaled.backward(inputs=[p for p in self.network.parameters() if p.requires_grad])

    def gradient_norm(self) -> Tensor:
        """Returns the norm of all gradients, after undoing the loss scale."""
        self.scaler.unscale_(self.optimizer)
        return nn.utils.get_total_norm([p.grad for p in self.network.parameters() if p.grad is not None])

    def update(self, norm: Tensor, largest_norm: float | None) -> None:
        """Updates parameters and average by gradients of this norm, which are first clipped to ``largest_norm``."""
        if largest_norm is not None:
            nn.utils.clip_grads_with_norm_(self.network.parameters(), largest_norm, norm)
        self.scaler.step(self.optimizer)
        if self.ema is not None:
            update_average(self.ema, self.network, self.ema_decay)

    def slow_down_deformable(self, rates: Iterable[float]) -> None:
        """Sets the base rates to ``rates``, halved for deformable convolutions."""
        groups = self.optimizer.param_groups
        self.base_rates = [rate / 2 if group["deformable"] else rate for rate, group in zip(rates, groups, strict=True)]

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """Returns the content of a weight file: ``params`` and, where an average is kept, ``params_ema``."""
        average = {} if self.ema is None else {"params_ema": self.ema.state_dict()}
        return {"params": self.network.state_dict(), **average}

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
        """Loads what :meth:`state_dict` returned.

        Args:
            state: of the same network and optimiser.
            keep_rates: keeps the state's learning rates and optimiser options, not those of the options file.
        """
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


class Players(dict[str, Player]):
    """The networks in training, by name.

    Attributes:
        phase: the phase whose parameters are trained, see phase_of; None before the first one.
    """

    phase: int | None = None

    def enter_phase(self, phase: int, rules: Sequence[ParameterRule], iteration: int) -> int:
        """Freezes and unfreezes the parameters of ``g`` and undoes distribution and compilation.

        Returns:
            How many numbers of all players are trained.

        Raises:
            UserError: none are.
        """
        self.phase = phase
        count = sum(player.freeze(rules if name == "g" else [], iteration) for name, player in self.items())
        if count == 0:
            raise UserError(f"iteration {iteration}: every parameter is frozen; there is nothing to train")
        return count

    def distribute(self, has_unused: Mapping[str, bool]) -> None:
        """Wraps every model in DistributedDataParallel, which has to know the trained parameters.

        Args:
            has_unused: by name, whether some rank's step leaves a trained parameter without gradient.
        """
        for name, player in self.items():
            # each step begins with the main process's buffers, since a state holds no others
            options = {"find_unused_parameters": has_unused[name], SYNC_BUFFERS: bool(player.buffers)}
            player.model = DistributedDataParallel(player.network, **options)

    def compile(self) -> None:
        """Compiles every model anew."""
        torch.compiler.reset()  # or code compiled for the phase before, with its gradients, is used again
        for player in self.values():
            player.model = torch.compile(player.model)

    def release(self) -> None:
        """Releases the models: DDP has to go before the processes part."""
        self.phase = None
        for player in self.values():
            player.model = None

    def start_step(self) -> None:
        """Switches the models to training and forgets the gradients."""
        for player in self.values():
            player.model.train()
            player.optimizer.zero_grad(set_to_none=True)

    def undoing(self, device: torch.device) -> Callable[[], None]:
        """Returns a function that undoes a step without an update: gradients, buffers and RNG state."""
        restore_random = rng.remember(device)
        restore_buffers = remember([buffer for player in self.values() for buffer in player.buffers])

        def undo() -> None:
            restore_random()
            restore_buffers()
            for player in self.values():
                player.optimizer.zero_grad(set_to_none=True)

        return undo

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of all players by name."""
        return {name: player.state_dict() for name, player in self.items()}

    def load_state_dict(self, state: dict[str, Any], keep_rates: bool = True) -> None:
        """Loads what :meth:`state_dict` returned; see Player."""
        for name, player in self.items():
            player.load_state_dict(state[name], keep_rates)


def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves ``average``'s parameters towards ``network``'s by ``1 - decay``; buffers are copied."""
    with torch.no_grad():
        get_ema_multi_avg_fn(decay)(list(average.parameters()), list(network.parameters()), 0)
        for own, theirs in zip(average.buffers(), network.buffers(), strict=True):
            own.copy_(theirs)
