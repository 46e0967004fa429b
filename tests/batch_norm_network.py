"""A network with buffers that a step changes, for ``imports: [batch_norm_network]``: EDVR has none."""

import torch
from torch import nn

from vsr.contracts import Spec
from vsr.registry import register


class Head(nn.Module):
    """Convolution, normalisation and dropout."""

    def __init__(self, num_feat: int, dropout: float) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, num_feat, 3, padding=1), nn.BatchNorm2d(num_feat)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frame: torch.Tensor) -> torch.Tensor:
        """Returns (b, num_feat, h, w) of (b, 3, h, w)."""
        return self.dropout(self.norm(self.conv(frame)))


@register("arch")
class BatchNormNetwork(nn.Module):
    """Enlarges the middle frame.

    Args:
        num_feat: channels of the features.
        dropout: share of the features that training zeroes.
    """

    def __init__(self, num_feat: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.spec = Spec(scale=4)
        self.head = Head(num_feat, dropout)
        self.last = nn.Conv2d(num_feat, 48, 3, padding=1)

    def forward(self, lq: torch.Tensor) -> torch.Tensor:
        """Returns (b, 3, 4h, 4w) of (b, t, 3, h, w)."""
        return nn.functional.pixel_shuffle(self.last(self.head(lq[:, lq.shape[1] // 2])), 4)
