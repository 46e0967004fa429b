"""The trainers for super-resolution that options files name."""

import re
from dataclasses import dataclass

from torch import nn

from vsr.engine.optim.rules import ParameterRule
from vsr.engine.options import TrainOptions
from vsr.engine.run import Run
from vsr.engine.trainer import Trainer
from vsr.registry import register
from vsr.utils.errors import UserError


@register("trainer")
class ScratchTrainer(Trainer):
    """Trains every parameter, from ``path.pretrain_network_g`` if it is given; ``train.parameters`` may say otherwise.

    Reference: EDVR's released options; their ``tsa_iter`` (section 4.1 of https://arxiv.org/abs/1905.02716) is read as
        rules that train only parameters with ``fusion`` in their names before that iteration.
    """


@dataclass(frozen=True)
class FreezeOptions(TrainOptions):
    """The keys of TrainOptions, and these.

    Args:
        tsa_iter: the first iteration that trains the loaded parameters too; 0 never does.
    """

    tsa_iter: int = 0


@register("trainer")
class FreezeTrainer(Trainer):
    """Freezes every parameter that ``path.pretrain_network_g`` has loaded and trains the others, such as a memory.

    With ``train.tsa_iter`` above 0, everything is trained from that iteration on. Use ``path.strict_load_g: false``.

    Reference: the original project's ``TRAIN_LOAD_FREEZE``; that ``tsa_iter`` ends the freeze is our reading of it.
    """

    train: FreezeOptions

    def __init__(self, network: nn.Module, run: Run, /, train: FreezeOptions) -> None:
        super().__init__(network, run, train)

    def rules(self) -> list[ParameterRule]:
        """Returns the freeze of the loaded parameters, then ``train.parameters``."""
        loaded, tsa_iter = self.progress.loaded, self.train.tsa_iter
        match = f"^(?:{'|'.join(map(re.escape, loaded))})$"
        freeze = ParameterRule(match, from_iter=tsa_iter) if tsa_iter > 0 else ParameterRule(match, frozen=True)
        return [freeze, *self.train.parameters]

    def check_start(self) -> None:
        """Checks what is frozen; only now, because a resumed state supplies the list of loaded weights."""
        loaded = set(self.progress.loaded)
        if not loaded:
            text = "and this training began with none: name a file with path.pretrain_network_g and start anew"
            raise UserError(f"FreezeTrainer freezes loaded weights, {text}")
        if loaded.issuperset(name for name, _ in self.players["g"].network.named_parameters()):
            text = "so that nothing is left to train: use ScratchTrainer, or a network with further parts"
            raise UserError(f"FreezeTrainer: path.pretrain_network_g loads every weight of the network, {text}")
