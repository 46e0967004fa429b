"""Which sample comes when: an endless stream that depends on the seed alone, whoever reads it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

LARGEST_EPOCH = 10**8  # draws, whose order is kept in memory: 0.8 GB


class SampleKey(NamedTuple):
    """One draw of a training sample; all its random choices follow from these three numbers.

    Workers, processes and resumed runs therefore see the same sample for the same key, with nothing to seed.
    """

    draw: int  # position in the enlarged data set; the item is draw % len(dataset)
    epoch: int = 0
    seed: int = 0

    def rng(self) -> np.random.Generator:
        """Returns the generator of every random choice of this sample."""
        return np.random.default_rng([self.seed, self.epoch, self.draw])


class ItemNumber(int):
    """The number of the item that a key draws: what any data set of PyTorch's takes. :func:`key_of` is the key."""

    key: SampleKey


def item_number(key: SampleKey, size: int) -> ItemNumber:
    """Returns the number of the item that a key draws from a data set of so many."""
    number = ItemNumber(key.draw % size)
    number.key = key
    return number


def key_of(number: int | SampleKey) -> SampleKey:
    """Returns the key that a data set was asked for; a plain number is the first draw of its item."""
    if isinstance(number, ItemNumber):
        return number.key
    return number if isinstance(number, SampleKey) else SampleKey(number)


class TrainSampler(Sampler[ItemNumber]):
    """Yields numbers of items, each with the key of its draw, without end, epoch after epoch.

    Position p counts over all ranks; its epoch is p // (dataset_size * enlarge_ratio), and within an epoch the draws
    are a permutation that depends on (seed, epoch). Rank r of w takes the positions start + r, start + r + w, …: any
    number of ranks together reads the same stream.

    Args:
        dataset_size: number of items.
        enlarge_ratio: how often an epoch visits each item, each time with another crop.
        seed: the run's ``manual_seed``.
        shuffle: False visits the draws in order.
        start: samples already consumed by all ranks together; the position to resume from.
        rank: this process.
        world_size: number of processes.

    Raises:
        ValueError: the data set is empty, or a number is out of range.
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
        if enlarge_ratio < 1:
            raise ValueError(f"dataset_enlarge_ratio {enlarge_ratio} is less than 1")
        if enlarge_ratio > 1 and dataset_size * enlarge_ratio > LARGEST_EPOCH:
            largest = max(LARGEST_EPOCH // dataset_size, 1)
            raise ValueError(
                f"dataset_enlarge_ratio {enlarge_ratio} is too large for {dataset_size} samples; "
                f"choose at most {largest}"
            )
        if seed < 0:
            raise ValueError(f"manual_seed {seed} is negative")
        if start < 0 or not 0 <= rank < world_size:
            raise ValueError(f"sampler start {start}, rank {rank} of {world_size} ranks: out of range")
        self.dataset_size = dataset_size
        self.epoch_size = dataset_size * enlarge_ratio
        self.seed = seed
        self.shuffle = shuffle
        self.start = start
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[ItemNumber]:
        """Yields this rank's numbers from ``start`` on."""
        position = self.start + self.rank
        epoch = -1
        order = np.empty(0, dtype=np.int64)
        while True:
            if position // self.epoch_size != epoch:
                epoch = position // self.epoch_size
                order = self._order(epoch)
            key = SampleKey(int(order[position % self.epoch_size]), epoch, self.seed)
            yield item_number(key, self.dataset_size)
            position += self.world_size

    def _order(self, epoch: int) -> np.ndarray:
        """Returns the draws of one epoch in the order in which they are visited."""
        if not self.shuffle:
            return np.arange(self.epoch_size)
        return np.random.default_rng([self.seed, epoch]).permutation(self.epoch_size)
