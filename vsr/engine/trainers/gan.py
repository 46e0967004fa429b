"""Training against a discriminator."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vsr.config.schema import settings_of
from vsr.data.stream.loader import Batch
from vsr.engine.options import TrainOptions
from vsr.engine.players import Player, Turn
from vsr.engine.run import Run
from vsr.engine.saving.weights import load_weights, recorded
from vsr.engine.trainer import Trainer
from vsr.registry import Component, NotNegative, Positive, register
from vsr.utils.errors import UserError, refuse
from vsr.utils.weight_files import read_weights

GANLoss = Annotated[Callable[[Tensor, bool, bool], Tensor], Component("gan_loss")]


@dataclass(frozen=True, kw_only=True)
class GANOptions(TrainOptions):
    """The keys of TrainOptions, and these; ``network_d`` may stand at the top of the file, as in BasicSR's.

    Schedule and warm-up are of both networks, ``parameters`` and ``ema_decay`` of the generator alone.

    Args:
        network_d: the discriminator. It judges each frame of a clip by itself.
        optim_d: the discriminator's optimiser.
        gan_opt: the adversarial loss.
        net_d_iters: the generator is trained in each iteration that this number divides, the discriminator in all. The
            log shows means over all iterations; those that do not train the generator count as 0 in its losses.
        net_d_init_iters: iterations at the beginning that train the discriminator alone.
        pretrain_network_d: weights of the discriminator to start from; ``path.pretrain_network_d`` in BasicSR's files.
            In a file of mmagic, those of its discriminator.
        strict_load_d: the parameters of that file and of the discriminator have to match exactly.
    """

    network_d: Annotated[Callable[..., nn.Module], Component("discriminator")]
    optim_d: Annotated[Callable[..., Optimizer], Component("optimizer")]
    gan_opt: GANLoss
    net_d_iters: Positive = 1
    net_d_init_iters: NotNegative = 0
    pretrain_network_d: str | None = None
    strict_load_d: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        has_rate = "lr" in settings_of(self.optim_d)
        mistakes = [] if has_rate else ["optim_d: it has no option `lr`, which the scheduler sets"]
        with torch.device("meta"):
            parts = {"network_d": self.network_d, "optim_d": partial(self.optim_d, [torch.zeros(1)])}
            for key, build in parts.items():
                try:
                    build()
                except ValueError as error:
                    mistakes += [f"{key}: {line}" for line in str(error).splitlines()]
        refuse(mistakes)

    def notes(self) -> Iterator[str]:
        """Yields the discriminator's weights if their file does not exist: resuming does not need it."""
        yield from super().notes()
        if self.pretrain_network_d is not None and not Path(self.pretrain_network_d).is_file():
            yield f"pretrain_network_d: {self.pretrain_network_d} does not exist"


@register("trainer")
class GANTrainer(Trainer):
    """Trains a network, the generator, against a discriminator that learns to tell its frames from real ones.

    The generator's losses are those of ScratchTrainer and ``gan_opt``. The discriminator sees as real the ground truth,
    before a degradation has sharpened it. One step of either is made in an iteration.

    Reference: Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661; BasicSR's VideoRecurrentGANModel.
    """

    train: GANOptions

    def __init__(self, network: nn.Module, run: Run, /, train: GANOptions) -> None:
        super().__init__(network, run, train)

    def make_players(self, network: nn.Module) -> dict[str, Player]:
        """Returns the generator ``g`` and the discriminator ``d``."""
        train = self.train
        judge = Player(train.network_d(), train.optim_d, train, self.run.place, scales_loss=self.scales_loss)
        return {**super().make_players(network), "d": judge}

    def check_start(self) -> None:
        """Loads the discriminator's weights, unless a state was resumed; refuses what cannot be trained."""
        train = self.train
        always_trains = train.net_d_iters == 1 and train.net_d_init_iters == 0
        if not always_trains and (self.run.place.world_size > 1 or self.scales_loss):
            raise UserError(
                "train.net_d_iters above 1 and train.net_d_init_iters above 0 need a single process, and no amp: fp16: "
                "leave them out, or train on one device with amp: bf16"
            )
        if self.progress.iteration == 0 and train.pretrain_network_d is not None:
            file, network = Path(train.pretrain_network_d), self.players["d"].network
            weights = read_weights(file, prefer="discriminator")
            load_weights(network, weights, file, train.strict_load_d, role="d")
            self.progress.weight_files = {**self.progress.weight_files, "network_d": recorded(file)}

    def losses(self, batch: Batch) -> Iterator[Turn]:
        """Yields the generator's losses, then the discriminator's for real and for fake frames, as BasicSR does."""
        generator, judge, loss = self.players["g"], self.players["d"], self.train.gan_opt
        iteration = self.progress.iteration
        if iteration > self.train.net_d_init_iters and iteration % self.train.net_d_iters == 0:
            turn = self.restored(batch)
            assert turn.output is not None, "it is the generator's"
            sr = turn.output
            yield turn._replace(losses={**turn.losses, "gan": loss(judged(judge.network, sr), True, False)})
        else:
            with torch.no_grad():
                sr = generator.network(batch["lq"]).float()
        real = batch.get("gt_original", batch["gt"])
        yield Turn("d", {"real": loss(judged(judge.model, real), True, True)})
        yield Turn("d", {"fake": loss(judged(judge.model, sr.detach()), False, True)}, sr)


def judged(discriminator: nn.Module, frames: Tensor) -> Tensor:
    """Returns a discriminator's logits, float32, of frames (b, 3, h, w), or of those of clips (b, t, 3, h, w)."""
    try:
        return discriminator(frames.flatten(0, -4)).float()
    except ValueError as error:
        raise UserError(f"network_d: {error}: check datasets.train.gt_size") from None
