"""The exponential moving average of a network's weights."""

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves ``average``'s parameters towards ``network``'s by ``1 − decay``; buffers are copied."""
    with torch.no_grad():
        get_ema_multi_avg_fn(decay)(list(average.parameters()), list(network.parameters()), 0)
        for own, theirs in zip(average.buffers(), network.buffers(), strict=True):
            own.copy_(theirs)
