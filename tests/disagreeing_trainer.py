"""A trainer whose ranks see different losses, for ``imports: [disagreeing_trainer]``."""

import math

from vsr.engine.options import TrainOptions
from vsr.engine.trainer import Trainer
from vsr.registry import register


@register("trainer")
class DisagreeingTrainer(Trainer):
    """Scales losses as fp16 does; that of rank 1 is not a number."""

    scales_loss = True

    def __init__(self, network, run, /, train: TrainOptions) -> None:
        super().__init__(network, run, train)

    def losses(self, batch):
        """Yields the losses, on rank 1 NaN."""
        for turn in super().losses(batch):
            factor = math.nan if self.run.place.rank else 1.0
            yield turn._replace(losses={name: factor * value for name, value in turn.losses.items()})
