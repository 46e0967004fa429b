"""A network of clips, for ``imports: [recurrent_network]``: one file, one decorator."""

import torch
from torch import Tensor, nn

from vsr.contracts import Spec
from vsr.registry import register


@register("arch")
class RecurrentNetwork(nn.Module):
    """Restores every frame of a clip from the frame and the features of the frames before it.

    Args:
        num_feat: channels of the features.
        scale: output size / input size.
    """

    def __init__(self, num_feat: int = 8, scale: int = 4) -> None:
        super().__init__()
        self.spec = Spec(reads="clip", scale=scale)
        self.conv = nn.Conv2d(3 + num_feat, num_feat, 3, padding=1)
        self.last = nn.Conv2d(num_feat, 3 * scale**2, 3, padding=1)

    def forward(self, lq: Tensor) -> Tensor:
        """Returns (b, t, 3, scale·h, scale·w) of (b, t, 3, h, w)."""
        b, t, _, h, w = lq.shape
        feature = lq.new_zeros(b, self.conv.out_channels, h, w)
        frames = []
        for i in range(t):
            feature = self.conv(torch.cat([lq[:, i], feature], 1)).relu()
            frames.append(nn.functional.pixel_shuffle(self.last(feature), self.spec.scale))
        return torch.stack(frames, 1)  # (b, t, 3, scale·h, scale·w)
