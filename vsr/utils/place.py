"""Where a process runs: its device, and its place among the processes of a distributed run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
import torch.distributed as dist

from vsr.utils.errors import UserError

LAUNCHER = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}  # what torchrun sets, and the values without it


class Place(NamedTuple):
    """The device of this process and its rank in the run."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and the log."""
        return self.rank == 0


@contextmanager
def take_place(num_gpu: int | Literal["auto"], backend: str | None = None, port: int | None = None) -> Iterator[Place]:
    """Yields the place of this process; joins the others when ``torchrun`` started several.

    Args:
        num_gpu: 0 is the CPU, ``auto`` a GPU if there is one, a number asks for GPUs.
        backend: of torch.distributed; by default nccl on GPUs, gloo on CPUs.
        port: the rendezvous port, where the launcher gives none.

    Raises:
        UserError: a GPU was asked for and there is none.
    """
    rank, world_size, local_rank = (int(os.environ.get(key, d)) for key, d in LAUNCHER.items())
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_gpu not in (0, "auto") and not available:
        raise UserError(
            f"num_gpu: {num_gpu} asks for a GPU and none was found; num_gpu: 0 runs on the CPU, auto on either"
        )
    device = torch.device("cuda", local_rank % available) if available and num_gpu != 0 else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size == 1:
        yield Place(device)
        return
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(port or 29500))
    dist.init_process_group(backend or ("nccl" if device.type == "cuda" else "gloo"), rank=rank, world_size=world_size)
    try:
        yield Place(device, rank, world_size)
    finally:
        dist.destroy_process_group()
