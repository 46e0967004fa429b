"""Training of a network that predicts the next frame."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from vsr.config.schema import settings_of
from vsr.data.stream.device import Batch
from vsr.engine.options import TrainOptions
from vsr.engine.record import Recorder
from vsr.engine.run import Run, Validation
from vsr.engine.saving import checkpoints
from vsr.engine.trainer import Trainer
from vsr.losses.memory_supervision import weight_divergence
from vsr.registry import register
from vsr.utils.files import failing_is_told
from vsr.utils.signals import StopSignals


@dataclass(frozen=True)
class PartRates:
    """Learning rates of the network's parts.

    Args:
        encoder: its rate; ~ is optim_g's.
        decoder: its rate; ~ is optim_g's.
        memory: its rate; ~ is optim_g's.
    """

    encoder: float | None = None
    decoder: float | None = None
    memory: float | None = None

    def __post_init__(self) -> None:
        for part, rate in vars(self).items():
            if rate is not None and rate < 0:
                raise ValueError(f"{part} has to be at least 0, got {rate}; ~ is optim_g's rate")


@dataclass(frozen=True)
class NextFrameOptions(TrainOptions):
    """How a FramePredictor is trained: the keys of TrainOptions, except tsa_iter and dcn_lr_mul, and these.

    It has no deformable convolutions whose offsets could be watched.

    Args:
        lr: learning rates of encoder, decoder and memory.
        wsupervised: factor of a loss that makes the memory read the frames most like the next one; 0 is off.
        num_pictures: validation samples whose pictures are kept with the best and the last results.
    """

    lr: PartRates = field(default_factory=PartRates)
    wsupervised: float = 0.0
    num_pictures: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tsa_iter is not None or self.dcn_lr_mul != 1:
            raise ValueError("tsa_iter and dcn_lr_mul are EDVR's: this network has no fusion module to train first")
        for name in ("wsupervised", "num_pictures"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} has to be at least 0, got {getattr(self, name)}")


@register("trainer")
class NextFrameTrainer(Trainer):
    """Trains a FramePredictor on HumanEvaDataset or CharadesDataset.

    In the experiment's folder it keeps ``Results/…/best_loss``, whenever a validation gives the lowest loss so far, and
    ``last``, whenever a state is saved: pictures of validation samples, and weights.

    Reference: the original project's README, whose options and folders these are (docs/restoration.md).
    """

    task = "next-frame"
    train: NextFrameOptions

    def __init__(self, network: nn.Module, run: Run, /, train: NextFrameOptions) -> None:
        self.newest: Validation | None = None
        super().__init__(network, run, train)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Returns the optimiser's groups: encoder, decoder, memory; what else a network of one's own has."""
        default = settings_of(self.train.optim_g)["lr"]
        rates = {"encoder": self.train.lr.encoder, "decoder": self.train.lr.decoder, "memory": self.train.lr.memory}
        groups = {part: {"params": [], "lr": default if lr is None else lr} for part, lr in rates.items()}
        for name, parameter in self.network.named_parameters():
            part = name.split(".")[0]  # sentence_encoder has the encoder's
            part = "encoder" if part.endswith("encoder") else part
            groups.setdefault(part, {"params": [], "lr": default})["params"].append(parameter)
        return [{**group, "deformable": False} for group in groups.values()]

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the loss of a batch and the network's output."""
        output, weights = self.model(batch["query"], batch["sentences"], self.train.wsupervised > 0)
        loss = self.criterion(output.float(), batch["target"])
        # a mean over the effective batch, of which this may be a part whose pixel loss is a sum
        parts = self.train.accumulate * self.run.place.world_size if self.loss_is_sum else 1
        for level in weights or []:
            divergence = weight_divergence(level.float(), batch["sentences"], batch["next"])
            loss = loss + self.train.wsupervised / len(weights) / parts * divergence
        return loss, output

    def frames(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the frames that an output stands for and those they should be."""
        return self.network.frame_of(output, batch["query"]), batch["next"]

    def validate(self, record: Recorder, stop: StopSignals) -> Validation | None:
        """Measures the network, and keeps it if its loss is the lowest so far."""
        result = super().validate(record, stop)
        if result is not None:
            self.newest = result
            loss = next(name for name in result.values if name in result.lower_is_better)
            if result.values[loss] == self.best[loss]:
                self.keep("best_loss", result, may_fail=self.iteration < self.train.total_iter)
        return result

    def save(self, may_fail: bool = False) -> None:
        """Saves the experiment, and the newest results."""
        super().save(may_fail)
        self.keep("last", self.newest, may_fail)

    def keep(self, name: str, result: Validation | None, may_fail: bool) -> None:
        """Writes weights, and pictures where there was a validation, to the results: ``best_loss`` or ``last``."""
        results = self.run.results
        assert results is not None, "vsr.train names the folder of next-frame results"
        with failing_is_told(may_fail and self.run.logger.on_failed_write == "go_on"):
            if result is not None:
                result.save_pictures(results / name)
            if self.run.place.is_main:
                network = self.network if self.ema is None else self.ema
                checkpoints.save(results / "weight" / f"{name}.pth", {"params": network.state_dict()})
