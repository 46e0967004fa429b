"""Training samples as a network receives them."""

import torch

from vsr.contracts import SampleKey
from vsr.data.stream.loader import batches, to_device


def sample_of(dataset, draw, epoch=0, seed=0):
    """Returns the sample of a draw as the loader and ``to_device`` make it, without the axis of the batch."""
    draws = [(draw % len(dataset), SampleKey(draw, epoch, seed))]
    batch = to_device(next(batches(dataset, draws, batch_size=1)), torch.device("cpu"))
    return {name: value[0] for name, value in batch.items()}


def samples_of(dataset, draws):
    """Returns the samples of a TrainSampler's draws."""
    return [sample_of(dataset, *key) for _, key in draws]
