"""One network, trained by several processes."""

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vsr.utils.place import Place


def data_parallel(network: nn.Module, find_unused: bool) -> DistributedDataParallel:
    """Returns the network as the processes train it together.

    Args:
        network: on this process's device.
        find_unused: whether a step may leave parameters without gradient.
    """
    # Each step begins with the main process's buffers, such as BatchNorm's means: a state holds no others.
    return DistributedDataParallel(
        network, find_unused_parameters=find_unused, broadcast_buffers=bool(persistent_buffers(network))
    )


def persistent_buffers(network: nn.Module) -> list[Tensor]:
    """Returns what a network keeps beside parameters, in a state, too. EDVR keeps nothing."""
    kept = network.state_dict().keys()
    return [buffer for name, buffer in network.named_buffers() if name in kept]


def share_buffers(network: nn.Module, place: Place) -> None:
    """Gives every process the main process's persistent buffers; every rank has to call it."""
    for buffer in persistent_buffers(network) if place.world_size > 1 else []:
        dist.broadcast(buffer, 0)
