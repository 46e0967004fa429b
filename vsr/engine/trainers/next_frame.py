"""Training of a network that predicts the next frame."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn

from vsr.data.stream.loader import Batch
from vsr.engine.options import TrainOptions
from vsr.engine.players import Turn
from vsr.engine.record import Recorder
from vsr.engine.run import Run, Validation
from vsr.engine.saving import checkpoints
from vsr.engine.trainer import Trainer
from vsr.losses.memory_supervision import weight_divergence
from vsr.registry import NotNegative, at_least, register
from vsr.utils.files import failing_is_told
from vsr.utils.signals import StopSignals


@dataclass(frozen=True)
class NextFrameOptions(TrainOptions):
    """How a FramePredictor is trained: the keys of TrainOptions, and these.

    It has no deformable convolutions whose offsets could be watched. ``lr: {encoder, decoder, memory}``, the original
    project's rates, are read as rules of ``parameters``.

    Args:
        wsupervised: factor of a loss that makes the memory read the frames most like the next one; 0 is off.
        num_pictures: validation samples whose pictures are kept with the best and the last results.
    """

    wsupervised: Annotated[float, at_least(0)] = 0.0
    num_pictures: NotNegative = 20


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

    def losses(self, batch: Batch) -> Iterator[Turn]:
        """Yields the losses of a batch: ``train.losses`` and, of each level of the memory, ``wsupervised``."""
        supervised = self.train.wsupervised
        output, weights = self.players["g"].model(batch["query"], batch["sentences"], supervised > 0)
        losses = {name: loss(output.float(), batch["target"]) for name, loss in self.criteria.items()}
        for number, level in enumerate(weights or [], start=1):
            divergence = weight_divergence(level.float(), batch["sentences"], batch["next"])
            losses[f"wsupervised_{number}"] = supervised / len(weights) * divergence
        yield Turn("g", losses, output)

    def frames(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the frames that an output stands for and those they should be."""
        return self.players["g"].network.frame_of(output, batch["query"]), batch["next"]  # type: ignore[operator]  # a method

    def validate(self, record: Recorder, stop: StopSignals) -> Validation | None:
        """Measures the network, and keeps it if its loss is the lowest so far."""
        result = super().validate(record, stop)
        if result is not None:
            self.newest = result
            loss = next(name for name in result.values if name in result.lower_is_better)
            if result.values[loss] == self.progress.best[loss]:
                self.keep("best_loss", result, may_fail=self.progress.iteration < self.train.total_iter)
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
                content = {"params": self.players["g"].evaluated.state_dict()}
                checkpoints.save(results / "weight" / f"{name}.pth", content)
