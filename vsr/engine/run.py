"""What a trainer works with besides its network and its options, and how far it has got."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from vsr.config.options import LoggerOptions
from vsr.data.degrade.apply import Degradation
from vsr.data.stream.loader import Batch
from vsr.utils.distributed import Place
from vsr.utils.signals import StopSignals


class Validation(NamedTuple):
    """The result of a validation.

    Args:
        values: by name.
        example: pictures to look at, (h, w, 3) uint8 RGB, by title.
        lower_is_better: the names of errors and losses; of the others the largest is the best.
        save_pictures: writes the samples' pictures into a folder.
    """

    values: dict[str, float]
    example: dict[str, np.ndarray]
    lower_is_better: frozenset[str] = frozenset()
    save_pictures: Callable[[Path], None] = lambda folder: None


Validate = Callable[[nn.Module, StopSignals], Validation | None]


class Stage(NamedTuple):
    """A stretch of training whose samples and batches are alike.

    Args:
        from_iter: its first iteration, counted from 1.
        effective_batch: samples of an optimiser step, over all processes.
        batches: this process's batches, without end, given how many samples all processes have consumed so far.
    """

    from_iter: int
    effective_batch: int
    batches: Callable[[int], Iterable[Batch]]


class Run(NamedTuple):
    """What a trainer works with besides the network and its options.

    Args:
        folder: the experiment's.
        val_freq: iterations between validations; None validates at the end only.
        batches: of the first stage, see Stage.
        effective_batch: of the first stage.
        training_set: identifies the training set in the state.
        validate: measures a network; None after a stop was requested. None where there is nothing to validate on.
        settings: the resolved options, kept in the state.
        loaded: names of the parameters that came from ``path.pretrain_network_g``, or a state's weights.
        results: where next-frame training keeps its best and last pictures and weights.
        weight_files: file and hash of the weights to start from, by the prefix of their names.
        degradation: makes LQ frames of GT frames on the device; None where batches hold them.
        later_stages: in ascending order.
        num_workers: processes that prepare samples, over all processes.
    """

    place: Place
    folder: Path
    logger: LoggerOptions
    val_freq: int | None
    batches: Callable[[int], Iterable[Batch]]
    effective_batch: int
    training_set: str
    validate: Validate | None
    settings: dict[str, Any]
    loaded: list[str]
    results: Path | None = None
    weight_files: dict[str, str] = {}  # noqa: RUF012 (read only)
    degradation: Degradation | None = None
    later_stages: Sequence[Stage] = ()
    num_workers: int = 0

    def stage_of(self, iteration: int) -> Stage:
        """Returns the stage of an iteration, counted from 1."""
        stages = (Stage(1, self.effective_batch, self.batches), *self.later_stages)
        return next(stage for stage in reversed(stages) if stage.from_iter <= max(iteration, 1))


@dataclass
class Progress:
    """How far a training has got: tensors and plain values, part of its state.

    Args:
        loaded: sorted names of the parameters that did not start at random.
        weight_files: see Run.
        iteration: optimiser steps done.
        samples: consumed, over all processes.
        last_validation: the iteration of the last validation.
        best: the best value of each metric.
        bad_steps: skipped steps in a row.
        losses: sums since the last line of the log, float64, by name; "" is the sum of a step's losses.
        loss_steps: steps in these sums.
    """

    loaded: list[str]
    weight_files: dict[str, str]
    iteration: int = 0
    samples: int = 0
    last_validation: int = 0
    best: dict[str, float] = field(default_factory=dict)
    bad_steps: int = 0
    losses: dict[str, Tensor] = field(default_factory=dict)
    loss_steps: int = 0
