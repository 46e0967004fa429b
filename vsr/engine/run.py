"""What a trainer works with besides its network and its options."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from vsr.config.options import LoggerOptions
from vsr.data.stream.device import Batch
from vsr.utils.distributed import Place
from vsr.utils.signals import StopSignals


class Validation(NamedTuple):
    """What measuring a network gave.

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


class Run(NamedTuple):
    """What a trainer works with besides the network and its options.

    Args:
        place: device and rank.
        folder: the experiment's.
        logger: what is written, and how often.
        val_freq: iterations between validations; None validates at the end only.
        batches: this process's batches, without end, given how many samples all processes have consumed so far.
        effective_batch: samples of an optimiser step, over all processes.
        training_set: what tells the training set from another, kept in the state.
        validate: measures a network; None after a stop was requested. None where there is nothing to validate on.
        settings: the resolved options, kept in the state.
        loaded: names of the parameters that came from ``path.pretrain_network_g``, or a state's weights.
        results: where next-frame training keeps its best and last pictures and weights.
    """

    place: Place
    folder: Path
    logger: LoggerOptions
    val_freq: int | None
    batches: Callable[[int], Iterable[Batch]]
    effective_batch: int
    training_set: str
    validate: Callable[[nn.Module, StopSignals], Validation | None] | None
    settings: dict[str, Any]
    loaded: list[str]
    results: Path | None = None
