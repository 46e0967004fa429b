"""The order of training samples: an endless stream that depends on the seed alone."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from vsr.contracts import SampleKey

LARGEST_EPOCH = 10**8  # draws, whose order is kept in memory: 0.8 GB


def key_from_numpy() -> SampleKey:
    """Returns a key drawn from NumPy's global generator, for a data set that is read without one."""
    return SampleKey(*np.random.randint(2**31 - 1, size=3).tolist())


class TrainSampler(Sampler[tuple[int, SampleKey]]):
    """Yields pairs of an item's index and the key of its draw, epoch after epoch, without end.

    Position p counts over all ranks; its epoch is p // (dataset_size * enlarge_ratio), and within an epoch the draws
    are a permutation that depends on (seed, epoch). Rank r of w takes the positions start + r, start + r + w, …: any
    number of ranks together reads the same stream.

    An epoch visits each of the ``dataset_size`` items ``enlarge_ratio`` times, each time with another crop; without
    ``shuffle`` in order. ``start`` is the number of samples that all ranks together have consumed already.

    Raises:
        ValueError: the data set is empty, or ``enlarge_ratio`` is too large for it.
    """

    def __init__(
        self,
        dataset_size: int,
        enlarge_ratio: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if dataset_size < 1:
            raise ValueError("the training data set is empty: nothing to sample from")
        if enlarge_ratio > 1 and dataset_size * enlarge_ratio > LARGEST_EPOCH:
            largest = max(LARGEST_EPOCH // dataset_size, 1)
            text = f"dataset_enlarge_ratio {enlarge_ratio} is too large for {dataset_size} samples"
            raise ValueError(f"{text}; choose at most {largest}")
        self.dataset_size = dataset_size
        self.epoch_size = dataset_size * enlarge_ratio
        self.seed, self.shuffle = seed, shuffle
        self.start, self.rank, self.world_size = start, rank, world_size

    def __iter__(self) -> Iterator[tuple[int, SampleKey]]:
        """Yields this rank's pairs from ``start`` on."""
        position, epoch, order = self.start + self.rank, -1, np.arange(self.epoch_size)
        while True:
            if position // self.epoch_size != epoch:
                epoch = position // self.epoch_size
                if self.shuffle:
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.epoch_size)
            key = SampleKey(int(order[position % self.epoch_size]), epoch, self.seed)
            yield key.draw % self.dataset_size, key
            position += self.world_size
