"""Batches from data sets: worker processes, and errors of one frame told as one message."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from torch.utils.data import DataLoader, Dataset, default_collate

from vsr.utils.errors import UserError
from vsr.utils.signals import ignore_interrupts


class Failure(NamedTuple):
    """What went wrong while a sample was read, carried to the process that can tell it."""

    message: str


class _Guarded(Dataset[Any]):
    """A data set whose unreadable samples become failures; exceptions would drown in their worker's traceback."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.dataset[key]
        except (ValueError, OSError) as error:
            return Failure(str(error))


def batches(
    dataset: Any,
    sampler: Iterable[Any] | None = None,
    batch_size: int | None = None,
    num_workers: int = 0,
    prefetch: int = 2,
    pin_memory: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yields batches, or single samples without a batch size.

    Args:
        dataset: map-style; its keys are the sampler's.
        sampler: which samples, in which order; None is every sample in order.
        batch_size: samples of a batch; the tensors are stacked, the texts become lists.
        num_workers: processes that read ahead; 0 reads in this one.
        prefetch: batches that each worker reads ahead.
        pin_memory: returns page-locked tensors.

    Raises:
        UserError: a sample could not be read.
    """
    loader = DataLoader(
        _Guarded(dataset),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        prefetch_factor=prefetch if num_workers else None,
        collate_fn=_collate if batch_size else _keep,
        worker_init_fn=ignore_interrupts if num_workers else None,
        pin_memory=pin_memory,
    )
    for batch in loader:
        if isinstance(batch, Failure):
            raise UserError(batch.message)
        yield batch


def _collate(samples: list[Any]) -> Any:
    failures = [sample for sample in samples if isinstance(sample, Failure)]
    return failures[0] if failures else default_collate(samples)


def _keep(sample: Any) -> Any:
    return sample
