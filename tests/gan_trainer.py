"""A trainer with two networks, for ``imports: [gan_trainer]``: one file, one decorator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn
from torch.nn.functional import softplus
from torch.optim import Optimizer

from vsr.engine.options import TrainOptions
from vsr.engine.players import Player, Turn
from vsr.engine.trainer import Trainer
from vsr.registry import Component, register


@dataclass(frozen=True, kw_only=True)
class GANOptions(TrainOptions):
    """The keys of TrainOptions, and these.

    Args:
        optim_d: the discriminator's optimiser.
        adversarial: factor of the generator's adversarial loss.
        discriminator: factor of the discriminator's losses.
    """

    optim_d: Annotated[Callable[..., Optimizer], Component("optimizer")]
    adversarial: float = 0.1
    discriminator: float = 1.0


@register("trainer")
class GANTrainer(Trainer):
    """Trains a network against a discriminator."""

    def __init__(self, network, run, /, train: GANOptions) -> None:
        super().__init__(network, run, train)

    def make_players(self, network):
        """Returns the generator and the discriminator."""
        judge = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Conv2d(8, 1, 3, 2, 1)
        )
        player = Player(judge, self.train.optim_d, self.train, self.run.place, scales_loss=self.scales_loss)
        return {**super().make_players(network), "d": player}

    def losses(self, batch):
        """Yields the generator's losses, then the discriminator's."""
        judge = self.players["d"]
        sr, gt = self.players["g"].model(batch["lq"]).float(), batch["gt"]
        adversarial = self.train.adversarial * softplus(-judge.network(sr)).mean()
        yield Turn("g", {"pixel": self.criteria["pixel"](sr, gt), "adversarial": adversarial}, sr)
        real, fake = judge.model(torch.cat([gt, sr.detach()])).chunk(2)
        factor = self.train.discriminator
        yield Turn("d", {"real": factor * softplus(-real).mean(), "fake": factor * softplus(fake).mean()})
