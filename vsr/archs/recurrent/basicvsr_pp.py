"""BasicVSR++: four branches with second-order propagation and flow-guided deformable alignment."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.archs.layers import conv3x3
from vsr.archs.recurrent.parts import ConvResidualBlocks, Keep, RecurrentNetwork, kept, mirrored_to_multiple
from vsr.contracts import Spec
from vsr.ops import ModulatedDeformConvPack, flow_warp
from vsr.registry import NotNegative, Positive, above, register
from vsr.utils.errors import refuse

BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")
DEFORMABLE_GROUPS = 16  # the first half reads the last feature, the second half the one before it


@register("arch")
class BasicVSRPlusPlus(RecurrentNetwork):
    """Restores every frame of a clip, ×4 or ×1, in two passes back and forth over it.

    SpyNet's weights are ``path.pretrain_network_g: {spynet: …}``. Parameter names are those of the published weights.

    Args:
        mid_channels: channels of the features, a multiple of 8.
        num_blocks: residual blocks of a branch; 25 with ``mid_channels: 128`` in the NTIRE network, 15 for ×1.
        max_residue_magnitude: largest offset, in pixels, that the deformable alignment adds to the flow.
        is_low_res_input: the network enlarges ×4; ``false`` keeps the size, for deblurring, denoising and the like.
        cpu_cache_length: with more frames than this, features wait in the CPU's memory; ``null``: they never do.
        flow_feat: channels of SpyNet, the flow network; its published weights have 32.

    Raises:
        ValueError: ``mid_channels`` is no multiple of 8.

    Reference: Chan et al., "BasicVSR++: Improving Video Super-Resolution with Enhanced Propagation and Alignment",
        CVPR 2022, https://arxiv.org/abs/2104.13371; the released model in https://github.com/XPixelGroup/BasicSR.
    Differs: any size of the frames; mirrored clips are computed as all others. Under autocast on a GPU, offsets are
        predicted in float32.
    """

    def __init__(
        self,
        mid_channels: Positive = 64,
        num_blocks: NotNegative = 7,
        max_residue_magnitude: Annotated[float, above(0)] = 10,
        is_low_res_input: bool = True,
        cpu_cache_length: Positive | None = 100,
        flow_feat: Positive = 32,
    ) -> None:
        wrong = mid_channels % (DEFORMABLE_GROUPS // 2)
        refuse([f"mid_channels: {mid_channels} is not a multiple of {DEFORMABLE_GROUPS // 2}"] if wrong else [])
        super().__init__(mid_channels, flow_feat)
        self.spec = Spec(reads="clip", scale=4 if is_low_res_input else 1)
        self.is_low_res_input = is_low_res_input
        self.cpu_cache_length = cpu_cache_length
        c = mid_channels
        if is_low_res_input:
            self.feat_extract = ConvResidualBlocks(3, c, 5)
        else:
            reduced = [
                conv3x3(3, c, stride=2),
                nn.LeakyReLU(0.1, True),
                conv3x3(c, c, stride=2),
                nn.LeakyReLU(0.1, True),
            ]
            self.feat_extract = nn.Sequential(*reduced, ConvResidualBlocks(c, c, 5))
        self.deform_align = nn.ModuleDict()
        self.backbone = nn.ModuleDict()
        for number, branch in enumerate(BRANCHES):
            self.deform_align[branch] = SecondOrderAlignment(c, max_residue_magnitude)
            self.backbone[branch] = ConvResidualBlocks((2 + number) * c, c, num_blocks)
        self.reconstruction = ConvResidualBlocks(5 * c, c, 5)

    def forward(self, lq: Tensor) -> Tensor:
        """Returns the restored clip, not clamped: (b, t, 3, 4h, 4w) of (b, t, 3, h, w), RGB in [0, 1].

        With ``is_low_res_input: false`` the result has the input's size.
        """
        (b, t), (h, w) = lq.shape[:2], lq.shape[-2:]
        keep = kept(self.cpu_cache_length is not None and t > self.cpu_cache_length)
        reduced = lq
        if not self.is_low_res_input:
            lq = mirrored_to_multiple(lq, 4)
            reduced = F.interpolate(lq.flatten(0, 1), scale_factor=0.25, mode="bicubic", align_corners=False)
            reduced = reduced.unflatten(0, (b, t))
        to_past, to_future = self.flows(reduced)
        known = [[keep(self.feat_extract(lq[:, i]))] for i in range(t)]  # features of each frame, spatial ones first
        for branch in BRANCHES:
            is_backward = branch.startswith("backward")
            order, flows = (range(t)[::-1], to_future) if is_backward else (range(t), to_past)
            features = self.propagate(branch, [known[i] for i in order], flows, lq.device, keep)
            for i, feature in zip(order, features, strict=True):
                known[i].append(feature)
        frames = []
        for i in range(t):
            feature = self.reconstruction(torch.cat(known[i], 1).to(lq.device))
            frames.append(self.enlarge(feature, lq[:, i]) if self.is_low_res_input else self.head(feature) + lq[:, i])
        restored = torch.stack(frames, 1)
        return restored if self.is_low_res_input else restored[..., :h, :w]

    def propagate(
        self, branch: str, known: list[list[Tensor]], flows: Sequence[Tensor], device: torch.device, keep: Keep
    ) -> list[Tensor]:
        """Runs a branch and returns its features, kept, in the order of the steps.

        Args:
            branch: its name.
            known: of each step, the features of its frame that are known before, spatial ones first.
            flows: of each step but the first, the flow to the frame of the step before.
            device: where to compute.
            keep: see kept.
        """
        features: list[Tensor] = []
        last = before = torch.zeros_like(known[0][0], device=device)
        for k, own in enumerate(known):
            spatial, *others = (feature.to(device) for feature in own)
            aligned = torch.zeros_like(spatial)
            if k > 0:
                flow, second_flow, warped = flows[k - 1], torch.zeros_like(flows[k - 1]), torch.zeros_like(spatial)
                if k > 1:
                    second_flow = flow + flow_warp(flows[k - 2], flow)
                    warped = flow_warp(before, second_flow)
                condition = torch.cat([flow_warp(last, flow), spatial, warped, flow, second_flow], 1)
                aligned = self.deform_align[branch](torch.cat([last, before], 1), condition)
            feature = aligned + self.backbone[branch](torch.cat([spatial, *others, aligned], 1))
            last, before = feature, last
            features.append(keep(feature))
        return features


class SecondOrderAlignment(ModulatedDeformConvPack):
    """Aligns the features of two past steps by a deformable convolution whose offsets add to their flows.

    ``forward(x, condition)`` reads both features, (n, 2 · num_feat, h, w), unwarped, and the condition
    (n, 3 · num_feat + 4, h, w): both features warped, with the frame's between them, then both flows, (x, y).

    Args:
        num_feat: channels of a feature.
        max_residue_magnitude: largest offset that is added, in pixels.

    Reference: section 3.2 of the BasicVSR++ paper.
    """

    def __init__(self, num_feat: int, max_residue_magnitude: float) -> None:
        super().__init__(2 * num_feat, num_feat, 3, padding=1, deformable_groups=DEFORMABLE_GROUPS)
        self.max_residue_magnitude = max_residue_magnitude
        layers: list[nn.Module] = []
        for given, made in ((3 * num_feat + 4, num_feat), (num_feat, num_feat), (num_feat, num_feat)):
            layers += [conv3x3(given, made), nn.LeakyReLU(0.1, inplace=True)]
        last = conv3x3(num_feat, sum(self.offset_channels))
        nn.init.zeros_(last.weight)
        self.conv_offset = nn.Sequential(*layers, last)

    def predict(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the offsets and masks that ``deform_conv2d`` reads; offsets are in float32 at least."""
        flows = feature[:, -4:].unflatten(1, (2, 1, 2)).flip(3)  # (n, feature, 1, (y, x), h, w)
        offset, mask = self.raw(feature)
        offset = self.max_residue_magnitude * torch.tanh(offset.to(flows.dtype))
        offset = offset.unflatten(1, (2, self.offset_channels[0] // 4, 2)) + flows
        return offset.flatten(1, 3), torch.sigmoid(mask)
