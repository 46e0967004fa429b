"""Parts that the recurrent networks share."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.archs.layers import conv3x3, lrelu, residual_blocks
from vsr.archs.recurrent.spynet import SpyNet
from vsr.ops import flow_warp

Keep = Callable[[Tensor], Tensor]


class ConvResidualBlocks(nn.Module):
    """A convolution, LeakyReLU and residual blocks: the trunk of a branch."""

    def __init__(self, num_in_ch: int, num_out_ch: int, num_block: int) -> None:
        super().__init__()
        activation = nn.LeakyReLU(0.1, inplace=True)
        self.main = nn.Sequential(conv3x3(num_in_ch, num_out_ch), activation, residual_blocks(num_block, num_out_ch))

    def forward(self, x: Tensor) -> Tensor:
        """Returns features (n, num_out_ch, h, w) of (n, num_in_ch, h, w)."""
        return self.main(x)


class RecurrentNetwork(nn.Module):
    """A network of clips with a flow network and a head that enlarges features ×4; the base of those in this folder.

    Args:
        num_feat: channels of the features.
        flow_feat: channels of the flow network, see SpyNet.
    """

    def __init__(self, num_feat: int, flow_feat: int = 32) -> None:
        super().__init__()
        self.num_feat = num_feat
        self.spynet = SpyNet(flow_feat)
        self.upconv1 = conv3x3(num_feat, num_feat * 4)
        self.upconv2 = conv3x3(num_feat, 64 * 4)
        self.conv_hr = conv3x3(64, 64)
        self.conv_last = conv3x3(64, 3)

    def flows(self, lq: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the flows from each frame of a clip (b, t, 3, h, w) to the frame before it, and to the one after it.

        Both hold t − 1 tensors (b, 2, h, w) in the order in which a branch needs them: those of the frames
        1, …, t − 1, and those of t − 2, …, 0.
        """
        b, t, _, h, w = lq.shape
        if t == 1:
            return [], []
        earlier, later = lq[:, :-1].reshape(-1, 3, h, w), lq[:, 1:].reshape(-1, 3, h, w)
        to_past, to_future = self.spynet(later, earlier), self.spynet(earlier, later)
        past, future = (flow.view(b, t - 1, 2, h, w).unbind(1) for flow in (to_past, to_future))
        return list(past), list(future)[::-1]

    def enlarge(self, feature: Tensor, frame: Tensor) -> Tensor:
        """Returns the frame (b, 3, 4h, 4w) made of a feature (b, num_feat, h, w) and the LQ frame."""
        return self.head(feature) + F.interpolate(frame, scale_factor=4, mode="bilinear", align_corners=False)

    def head(self, feature: Tensor) -> Tensor:
        """Returns (b, 3, 4h, 4w) of a feature (b, num_feat, h, w)."""
        x = lrelu(F.pixel_shuffle(self.upconv1(feature), 2))
        x = lrelu(F.pixel_shuffle(self.upconv2(x), 2))
        return self.conv_last(lrelu(self.conv_hr(x)))


def propagate(
    step: Callable[[int, Tensor], Tensor], order: Sequence[int], flows: Sequence[Tensor], start: Tensor, keep: Keep
) -> list[Tensor]:
    """Runs a branch and returns its features, kept, in the order of the steps.

    Args:
        step: returns a frame's feature from the frame's number and the feature of the step before, warped to the frame.
        order: the frames' numbers.
        flows: of each step but the first, the flow to the frame of the step before.
        start: what the first step receives.
        keep: see kept.
    """
    feature = start
    features: list[Tensor] = []
    for k, i in enumerate(order):
        feature = step(i, flow_warp(feature, flows[k - 1]) if k else feature)
        features.append(keep(feature))
    return features


def mirrored_to_multiple(clip: Tensor, multiple: int) -> Tensor:
    """Returns a clip (…, h, w) whose sides are multiples: at the right and bottom its frames are mirrored.

    The pixel of the border is not repeated, but for a side of one pixel; a side may be shorter than its extension.
    """
    for dim in (-2, -1):
        size = clip.shape[dim]
        wanted = -(-size // multiple) * multiple
        if wanted != size:
            period = max(2 * size - 2, 1)
            index = torch.arange(wanted, device=clip.device) % period
            clip = clip.index_select(dim, torch.minimum(index, period - index) if size > 1 else index)
    return clip


def kept(is_long: bool) -> Keep:
    """Returns where the features of a clip wait for their use: in the CPU's memory if the clip is long."""
    return Tensor.cpu if is_long else lambda feature: feature
