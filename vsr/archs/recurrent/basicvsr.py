"""BasicVSR: bidirectional recurrent restoration of clips, with features aligned by optical flow."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vsr.archs.layers import lrelu
from vsr.archs.recurrent.parts import ConvResidualBlocks, Keep, RecurrentNetwork, kept, propagate
from vsr.contracts import Spec
from vsr.registry import NotNegative, Positive, register


@register("arch")
class BasicVSR(RecurrentNetwork):
    """Restores every frame of a clip, ×4, with features of the frames after it and then of those before it.

    SpyNet's weights are ``path.pretrain_network_g: {spynet: …}``. Parameter names are those of the published weights.

    Args:
        num_feat: channels of the features.
        num_block: residual blocks of a branch; the published networks have 30.
        causal: reads no later frames: without the backward branch, for streams. There are no published weights.
        cpu_cache_length: with more frames than this, features wait in the CPU's memory; ``null``: they never do.
        flow_feat: channels of SpyNet, the flow network; its published weights have 32.

    Reference: Chan et al., "BasicVSR: The Search for Essential Components in Video Super-Resolution and Beyond",
        CVPR 2021, https://arxiv.org/abs/2012.02181; the released model in https://github.com/XPixelGroup/BasicSR.
    Differs: ``causal``; any size of the frames; a clip may have one frame.
    """

    def __init__(
        self,
        num_feat: Positive = 64,
        num_block: NotNegative = 15,
        causal: bool = False,
        cpu_cache_length: Positive | None = None,
        flow_feat: Positive = 32,
    ) -> None:
        super().__init__(num_feat, flow_feat)
        self.spec = Spec(reads="clip", scale=4)
        self.cpu_cache_length = cpu_cache_length
        self.backward_trunk = None if causal else ConvResidualBlocks(num_feat + 3, num_feat, num_block)
        self.forward_trunk = ConvResidualBlocks(num_feat + 3, num_feat, num_block)
        self.fusion = nn.Conv2d(num_feat * (1 if causal else 2), num_feat, 1)

    def forward(self, lq: Tensor) -> Tensor:
        """Returns the restored clip (b, t, 3, 4h, 4w), not clamped, of (b, t, 3, h, w), RGB in [0, 1]."""
        b, t, _, h, w = lq.shape
        to_past, to_future = self.flows(lq)
        start = lq.new_zeros(b, self.num_feat, h, w)
        keep = kept(self.cpu_cache_length is not None and t > self.cpu_cache_length)
        branches = [self.branch(self.forward_trunk, lq, range(t), to_past, start, keep)]
        if self.backward_trunk is not None:
            later = self.branch(self.backward_trunk, lq, range(t)[::-1], to_future, start, keep)
            branches.insert(0, later[::-1])
        frames = []
        for i in range(t):
            features = torch.cat([branch[i] for branch in branches], 1).to(lq.device)
            frames.append(self.enlarge(lrelu(self.fusion(features)), lq[:, i]))
        return torch.stack(frames, 1)

    def branch(
        self, trunk: nn.Module, lq: Tensor, order: Sequence[int], flows: Sequence[Tensor], start: Tensor, keep: Keep
    ) -> list[Tensor]:
        """Runs a branch over the frames of a clip (b, t, 3, h, w); the other arguments are those of ``propagate``."""
        return propagate(lambda i, feature: trunk(torch.cat([lq[:, i], feature], 1)), order, flows, start, keep)
