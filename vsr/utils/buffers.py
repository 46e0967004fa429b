"""What a network keeps beside parameters, such as BatchNorm's means; EDVR keeps nothing."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vsr.utils.distributed import Place


def persistent_buffers(network: nn.Module) -> list[Tensor]:
    """Returns the buffers that are part of a state."""
    kept = network.state_dict().keys()
    return [buffer for name, buffer in network.named_buffers() if name in kept]


def remember(buffers: list[Tensor]) -> Callable[[], None]:
    """Returns a function that puts back the values that buffers have now."""
    former = [buffer.clone() for buffer in buffers]

    @torch.no_grad()
    def put_back() -> None:
        for buffer, before in zip(buffers, former, strict=True):
            buffer.copy_(before)

    return put_back


def share_buffers(network: nn.Module, place: Place) -> None:
    """Gives every process the main process's persistent buffers; every rank has to call it."""
    for buffer in persistent_buffers(network) if place.world_size > 1 else []:
        dist.broadcast(buffer, 0)
