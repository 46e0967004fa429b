"""Networks for tests of videos, for ``imports: [tiny_networks]``."""

import time

import torch
from torch import Tensor, nn

from vsr.contracts import Spec
from vsr.registry import register


@register("arch")
class RepeatedPixels(nn.Module):
    """Repeats each pixel of the middle frame; at scale 1 the identity.

    Args:
        scale: output size / input size.
        num_frame: frames in the window.
        gain: factor of the output; 0 is black.
        seconds: per frame, to be interrupted.
    """

    def __init__(self, scale: int = 1, num_frame: int = 3, gain: float = 1.0, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds
        self.spec = Spec(scale=scale, num_frames=num_frame)
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, lq: Tensor) -> Tensor:
        """Returns (b, 3, scale·h, scale·w) of (b, t, 3, h, w)."""
        time.sleep(self.seconds)
        middle = lq[:, lq.shape[1] // 2] * self.gain
        return middle.repeat_interleave(self.spec.scale, -1).repeat_interleave(self.spec.scale, -2)


@register("arch")
class WithUnused(RepeatedPixels):
    """Repeats pixels, and has parameters that it does not use."""

    def __init__(self, scale: int = 1, num_frame: int = 3) -> None:
        super().__init__(scale, num_frame)
        self.unused = nn.Conv2d(3, 3, 1)


@register("arch")
class WindowMean(nn.Module):
    """Returns the mean of the window, which shows which frames it holds.

    Args:
        scale: output size / input size.
        num_frame: frames in the window.
    """

    def __init__(self, scale: int = 1, num_frame: int = 3) -> None:
        super().__init__()
        self.spec = Spec(scale=scale, num_frames=num_frame)
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, lq: Tensor) -> Tensor:
        """Returns (b, 3, scale·h, scale·w) of (b, t, 3, h, w)."""
        mean = lq.mean(1) * self.gain
        return mean.repeat_interleave(self.spec.scale, -1).repeat_interleave(self.spec.scale, -2)
