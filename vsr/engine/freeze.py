"""Training of what is new in a network, around a pretrained part that stays as it is."""

from torch import nn

from vsr.engine.options import TrainOptions
from vsr.engine.run import Run
from vsr.engine.trainer import Trainer
from vsr.registry import register
from vsr.utils.errors import UserError


@register("trainer")
class FreezeTrainer(Trainer):
    """Freezes every parameter that ``path.pretrain_network_g`` has loaded and trains the others, such as a memory.

    With ``train.tsa_iter`` above 0, everything is trained from that iteration on. Use ``path.strict_load_g: false``.

    Reference: the original project's ``TRAIN_LOAD_FREEZE``; that ``tsa_iter`` ends the freeze is our reading of it.
    """

    def __init__(self, network: nn.Module, run: Run, /, train: TrainOptions) -> None:
        super().__init__(network, run, train=train)
        if self.loaded.issuperset(name for name, _ in network.named_parameters()):
            raise UserError(
                "FreezeTrainer freezes what path.pretrain_network_g loads, which is everything: nothing is left to "
                "train; use ScratchTrainer, or a network with a part that the weights do not have"
            )

    def fit(self) -> None:
        """Trains; see Trainer. Only now is it known what was loaded, since a state brings the names along."""
        if not self.loaded:
            raise UserError(
                "FreezeTrainer freezes loaded weights, and this training began with none: name a file with "
                "path.pretrain_network_g and start anew"
            )
        super().fit()

    def is_trainable(self, name: str, iteration: int) -> bool:
        """Returns whether the parameter ``name`` is trained in this iteration, counted from 1."""
        tsa_iter = self.train.tsa_iter or 0
        return name not in self.loaded or 0 < tsa_iter <= iteration
