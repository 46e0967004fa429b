"""The device of a process, and its rank in a distributed run."""

# PyTorch leaves these functions without types
# pyright: reportUnknownMemberType=false

import logging
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from vsr.utils.errors import UserError, tell
from vsr.utils.log import logger

T = TypeVar("T")
UNSET = "torchrun sets these environment variables; unset them to run one process"
GLOO_LOST_PEER = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")  # gloo's errors have no type
TIMEOUT = timedelta(hours=2)  # for the slowest rank: longer than any validation, which is shared among the ranks


class Place(NamedTuple):
    """The device of this process and its rank in the run."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and the log."""
        return self.rank == 0

    def share(self, length: int) -> range:
        """Returns this rank's part of a sequence: neighbouring items; no item is two ranks'."""
        return range(length * self.rank // self.world_size, length * (self.rank + 1) // self.world_size)

    def part(self, items: Sequence[T]) -> Sequence[T]:
        """Returns this rank's share of the items."""
        share = self.share(len(items))
        return items[share.start : share.stop]


@contextmanager
def take_place(num_gpu: int | Literal["auto"], backend: str | None = None, port: int | None = None) -> Generator[Place]:
    """Yields the place of this process; joins the others if ``torchrun`` started several.

    Args:
        num_gpu: 0 is the CPU, ``auto`` a GPU if there is one, a number asks for GPUs.
        backend: of torch.distributed; by default nccl on GPUs, gloo on CPUs.
        port: the rendezvous port, where the launcher gives none.

    Raises:
        UserError: there is no such GPU, or the processes cannot be connected.
    """
    rank, world_size, local_rank = _variable("RANK", 0), _variable("WORLD_SIZE", 1), _variable("LOCAL_RANK", 0)
    if rank >= world_size:
        raise UserError(f"RANK is {rank} and WORLD_SIZE {world_size}: {UNSET}")
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_gpu not in (0, "auto") and not available:
        remedy = "num_gpu: 0 runs on the CPU, auto on either"
        raise UserError(f"num_gpu: {num_gpu} asks for a GPU and none was found; {remedy}")
    device = torch.device("cuda", local_rank % available) if available and num_gpu != 0 else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size == 1:
        yield Place(device)
        return
    address = os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    address += ":" + os.environ.setdefault("MASTER_PORT", str(port or 29500))
    if rank == 0:
        logger.warning("waiting for %d other process(es) at %s, as WORLD_SIZE says", world_size - 1, address)
    connect(device, backend, rank, world_size)
    try:
        yield Place(device, rank, world_size)
    except UserError as error:
        _leave_alone(error)
    except RuntimeError as error:
        if not isinstance(error, dist.DistBackendError) and not any(sign in str(error) for sign in GLOO_LOST_PEER):
            raise
        _leave_alone(f"rank {rank} stops: another process of this run ended; its message says why")
    except SystemExit:  # all ranks stop together
        _leave_together()
        raise
    else:
        _leave_together()


def _variable(name: str, default: int) -> int:
    """Returns a variable that torchrun sets; its default is its smallest value, too."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or not default <= int(text) < 2**31:
        raise UserError(f"{name} is {text!r}; expected a whole number, at least {default}: {UNSET}")
    return int(text)


def connect(device: torch.device, backend: str | None, rank: int, world_size: int) -> None:
    """Joins the other processes of the run; raises UserError if the port is taken or two processes share a GPU."""
    backend = "gloo" if device.type == "cpu" else backend or "nccl"  # published files ask for nccl, on CPUs, too
    bound_to = device if backend == "nccl" else None  # or nccl guesses, and connects only at the first exchange
    try:
        dist.init_process_group(backend, rank=rank, world_size=world_size, timeout=TIMEOUT, device_id=bound_to)
    except (dist.DistNetworkError, dist.DistBackendError) as error:
        remedy = "each GPU takes one process (torchrun --nproc_per_node=…); dist_params.backend: gloo shares GPUs"
        if isinstance(error, dist.DistNetworkError):
            remedy = "dist_params.port, or the environment variable MASTER_PORT, chooses another port"
        reason = " ".join(str(error).split())[:500]
        raise UserError(f"the processes of this run cannot be connected: {remedy}. PyTorch: {reason}") from None


def _leave_together() -> None:
    dist.barrier()  # work that still holds tensors would make the group wait for Python, and Python for the group
    dist.destroy_process_group()


def _leave_alone(message: UserError | str) -> None:
    """Exits at once; the launcher stops the other ranks."""
    tell(message)
    logging.shutdown()
    os._exit(2)


def over_ranks(value: Tensor, place: Place, how: Literal["mean", "max"]) -> Tensor:
    """Returns the mean or maximum of a tensor over all ranks; every rank has to call it."""
    if place.world_size == 1:
        return value
    value = value.clone()
    dist.all_reduce(value, dist.ReduceOp.MAX if how == "max" else dist.ReduceOp.SUM)
    return value if how == "max" else value / place.world_size


def any_rank(flag: bool, place: Place) -> bool:
    """Returns whether the flag is set on some rank; every rank has to call it."""
    return bool(over_ranks(torch.tensor(int(flag), device=place.device), place, "max"))


def from_all_ranks(values: list[Any], place: Place) -> list[Any]:
    """Returns the values of all ranks in one list, in order of rank; every rank has to call it."""
    if place.world_size == 1:
        return values
    parts: list[list[Any]] = [[]] * place.world_size
    dist.all_gather_object(parts, values)
    return [value for part in parts for value in part]
