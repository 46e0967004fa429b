"""IconVSR: BasicVSR with refilled key frames and coupled branches."""

import torch
from torch import Tensor

from vsr.archs.edvr import EDVR
from vsr.archs.layers import conv3x3
from vsr.archs.recurrent.parts import ConvResidualBlocks, RecurrentNetwork, kept, mirrored_to_multiple, propagate
from vsr.contracts import Spec
from vsr.registry import NotNegative, Positive, register

RECONSTRUCTION = ("reconstruction", "upconv1", "upconv2", "conv_hr", "conv_last")


class EDVRExtractor(EDVR):
    """EDVR-M up to its fusion: the feature of a window's centre frame, which refills a key frame.

    A subclass, because its parameters have to keep EDVR's names.
    """

    def __init__(self, num_frame: int, num_feat: int) -> None:
        super().__init__(num_frame=num_frame, num_feat=num_feat)
        for name in RECONSTRUCTION:
            delattr(self, name)

    def forward(self, lq: Tensor) -> Tensor:
        """Returns a feature (b, num_feat, h, w) of a window (b, num_frame, 3, h, w)."""
        pyramid = [level.unflatten(0, lq.shape[:2]) for level in self.extract(lq.flatten(0, 1))]
        return self.fuse(self.align(pyramid))


@register("arch")
class IconVSR(RecurrentNetwork):
    """Restores every frame of a clip, ×4, as BasicVSR does, with coupled branches and refilled key frames.

    The forward branch reads the backward branch's features, and the feature of a key frame is fused with an EDVR's.
    Weights of SpyNet and of the EDVR are ``path.pretrain_network_g: {spynet: …, edvr: …}``. Parameter names are those
    of the published weights.

    Args:
        num_feat: channels of the features.
        num_block: residual blocks of a branch; the published networks have 30.
        keyframe_stride: frames from one key frame to the next; the last frame is one, too.
        temporal_padding: frames before and after a key frame that the EDVR reads: 2 for REDS, 3 for Vimeo-90K.
        cpu_cache_length: with more frames than this, features wait in the CPU's memory; ``null``: they never do.
        flow_feat: channels of SpyNet, the flow network; its published weights have 32.

    Reference: Chan et al., "BasicVSR: The Search for Essential Components in Video Super-Resolution and Beyond",
        CVPR 2021, section 4, https://arxiv.org/abs/2012.02181; the released model in
        https://github.com/XPixelGroup/BasicSR.
    Differs: none.
    """

    def __init__(
        self,
        num_feat: Positive = 64,
        num_block: NotNegative = 15,
        keyframe_stride: Positive = 5,
        temporal_padding: Positive = 2,
        cpu_cache_length: Positive | None = None,
        flow_feat: Positive = 32,
    ) -> None:
        super().__init__(num_feat, flow_feat)
        self.keyframe_stride = keyframe_stride
        self.temporal_padding = temporal_padding
        self.cpu_cache_length = cpu_cache_length
        self.edvr = EDVRExtractor(2 * temporal_padding + 1, num_feat)
        self.spec = Spec(reads="clip", scale=4, min_frames=2 * temporal_padding + 1)
        self.backward_fusion = conv3x3(2 * num_feat, num_feat)
        self.backward_trunk = ConvResidualBlocks(num_feat + 3, num_feat, num_block)
        self.forward_fusion = conv3x3(2 * num_feat, num_feat)
        self.forward_trunk = ConvResidualBlocks(2 * num_feat + 3, num_feat, num_block)

    def forward(self, lq: Tensor) -> Tensor:
        """Returns the restored clip (b, t, 3, 4h, 4w), not clamped, of (b, t, 3, h, w), RGB in [0, 1].

        Raises:
            ValueError: the clip is shorter than ``spec.min_frames``.
        """
        h, w = lq.shape[-2:]
        lq = mirrored_to_multiple(lq, self.edvr.spec.multiple)
        b, t = lq.shape[:2]
        to_past, to_future = self.flows(lq)
        start = lq.new_zeros(b, self.num_feat, *lq.shape[-2:])
        keep = kept(self.cpu_cache_length is not None and t > self.cpu_cache_length)
        refill = {i: keep(self.edvr(lq[:, window])) for i, window in self.windows(t).items()}

        def backward(i: int, feature: Tensor) -> Tensor:
            if i in refill:
                feature = self.backward_fusion(torch.cat([feature, refill[i].to(lq.device)], 1))
            return self.backward_trunk(torch.cat([lq[:, i], feature], 1))

        later = propagate(backward, range(t)[::-1], to_future, start, keep)[::-1]

        def forward(i: int, feature: Tensor) -> Tensor:
            if i in refill:
                feature = self.forward_fusion(torch.cat([feature, refill[i].to(lq.device)], 1))
            return self.forward_trunk(torch.cat([lq[:, i], later[i].to(lq.device), feature], 1))

        features = propagate(forward, range(t), to_past, start, keep)
        frames = [self.enlarge(feature.to(lq.device), lq[:, i]) for i, feature in enumerate(features)]
        return torch.stack(frames, 1)[..., : 4 * h, : 4 * w]

    def windows(self, t: int) -> dict[int, list[int]]:
        """Returns the EDVR's window of each key frame, as frames' numbers, in a clip of t frames.

        Frames before the first and after the last are EDVR's: with a padding of 2, frames 4 3 stand before 0 1 2.
        """
        p = self.temporal_padding
        if t < 2 * p + 1:
            raise ValueError(
                f"IconVSR with temporal_padding {p} reads clips of at least {2 * p + 1} frames, got {t}: train with a "
                "larger num_frame, or restore in longer segments"
            )
        padded = [*range(2 * p, p, -1), *range(t), *range(t - p - 2, t - 2 * p - 2, -1)]
        return {i: padded[i : i + 2 * p + 1] for i in sorted({*range(0, t, self.keyframe_stride), t - 1})}
