"""A network's buffers, such as BatchNorm's running means; EDVR has none."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vsr.utils.distributed import Place


def persistent_buffers(network: nn.Module) -> list[Tensor]:
    """Returns the buffers that are part of the network's state."""
    kept = network.state_dict().keys()
    return [buffer for name, buffer in network.named_buffers() if name in kept]


def remember(buffers: list[Tensor]) -> Callable[[], None]:
    """Returns a function that restores the present values of the buffers."""
    former = [buffer.clone() for buffer in buffers]

    @torch.no_grad()
    def restore() -> None:
        for buffer, value in zip(buffers, former, strict=True):
            buffer.copy_(value)

    return restore


def share_buffers(network: nn.Module, place: Place) -> None:
    """Copies the main process's persistent buffers to all ranks; every rank has to call it."""
    for buffer in persistent_buffers(network) if place.world_size > 1 else []:
        dist.broadcast(buffer, 0)
