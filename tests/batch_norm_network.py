"""A network with buffers, for ``imports: [batch_norm_network]``: EDVR has none that a step changes."""

import torch
from torch import nn

from vsr.registry import register


@register("arch")
class BatchNormNetwork(nn.Module):
    """Enlarges the middle frame.

    Args:
        num_feat: channels of the features.
    """

    def __init__(self, num_feat: int = 8) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, num_feat, 3, padding=1), nn.BatchNorm2d(num_feat)
        self.last = nn.Conv2d(num_feat, 48, 3, padding=1)

    def forward(self, lq: torch.Tensor) -> torch.Tensor:
        """Returns (b, 3, 4h, 4w) of (b, t, 3, h, w)."""
        return nn.functional.pixel_shuffle(self.last(self.norm(self.conv(lq[:, lq.shape[1] // 2]))), 4)
