"""Training of the whole network, maybe after a stage that trains the fusion module alone."""

from vsr.engine.trainer import Trainer
from vsr.registry import register


@register("trainer")
class ScratchTrainer(Trainer):
    """Trains every parameter, from ``path.pretrain_network_g`` if it is given.

    With ``train.tsa_iter``, iterations before it train only parameters with ``fusion`` in their names.

    Reference: EDVR's two-stage training, section 4.1 of https://arxiv.org/abs/1905.02716 and its released options.
    """

    def is_trainable(self, name: str, iteration: int) -> bool:
        """Returns whether the parameter ``name`` is trained in this iteration, counted from 1."""
        return iteration >= (self.train.tsa_iter or 0) or "fusion" in name
