"""EDVR: video restoration with deformable alignment and attention.

Reference: Wang et al., "EDVR: Video Restoration with Enhanced Deformable Convolutional Networks", CVPRW 2019,
    https://arxiv.org/abs/1905.02716
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.archs.layers import (
    ResidualBlock,
    conv3x3,
    conv_with_reference,
    half_conv,
    lrelu,
    residual_blocks,
    upsample_x2,
)
from vsr.contracts import Spec
from vsr.ops import ModulatedDeformConvPack
from vsr.ops.tensors import layout_of
from vsr.registry import NotNegative, Positive, Shared, register
from vsr.utils.errors import refuse


@register("arch")
class EDVR(nn.Module):
    """Restores the centre frame of a window of frames, ×2, ×3 or ×4 (or ×1 with ``hr_in``).

    Extraction → pyramid, cascading and deformable (PCD) alignment → temporal and spatial attention (TSA) fusion →
    reconstruction, added to the bilinearly enlarged centre frame. Parameter names are those of the published weights.
    EDVR-M is the default; EDVR-L has ``num_feat: 128`` and ``num_reconstruct_block: 40``.

    Args:
        num_in_ch: colour channels of a frame, 3: frames are RGB.
        num_out_ch: colour channels of the result, to which the frame is added: 3.
        num_feat: channels of the features.
        num_frame: frames in a window.
        deformable_groups: groups of channels that move together in the deformable convolutions; divides ``num_feat``.
        num_extract_block: residual blocks before alignment.
        num_reconstruct_block: residual blocks after fusion.
        center_frame_idx: the frame to restore, counted from 0; ``null`` is the middle one.
        hr_in: the input has the output's size (deblurring): strided convolutions of ``with_predeblur`` reduce it first.
        with_predeblur: puts the pre-deblurring module before alignment.
        with_tsa: fuses with attention; a 1×1 convolution otherwise.
        scale: output size / input size; 4 is the published network. ×2 and ×3 shuffle pixels once, after ``upconv1``,
            and have no ``upconv2``. With ``hr_in`` the output has the input's size.

    Raises:
        ValueError: options that do not fit each other.

    Reference: figure 2 of the paper; the released model in https://github.com/XPixelGroup/BasicSR.
    Differs: all frames are aligned in one batched call; the heads for ×2 and ×3.
    """

    def __init__(
        self,
        num_in_ch: Literal[3] = 3,
        num_out_ch: Literal[3] = 3,
        num_feat: Positive = 64,
        num_frame: Positive = 5,
        deformable_groups: Positive = 8,
        num_extract_block: NotNegative = 5,
        num_reconstruct_block: NotNegative = 10,
        center_frame_idx: NotNegative | None = None,
        hr_in: bool = False,
        with_predeblur: bool = False,
        with_tsa: bool = True,
        scale: Annotated[Literal[1, 2, 3, 4], Shared("scale")] = 4,
    ) -> None:
        super().__init__()
        center_frame_idx = num_frame // 2 if center_frame_idx is None else center_frame_idx
        mistakes = []
        if center_frame_idx >= num_frame:
            mistakes.append(f"center_frame_idx {center_frame_idx} is not one of the {num_frame} frames (num_frame)")
        if num_feat % deformable_groups:
            mistakes.append(f"num_feat {num_feat} is not a multiple of deformable_groups {deformable_groups}")
        if hr_in and not with_predeblur:
            mistakes.append("hr_in: true needs with_predeblur: true, whose strided convolutions reduce the input")
        if scale == 1 and not hr_in:
            mistakes.append("scale 1 needs hr_in: true, for an input that has the output's size")
        refuse(mistakes)
        self.num_frame = num_frame
        self.center_frame_idx = center_frame_idx
        self.hr_in = hr_in
        self.with_predeblur = with_predeblur
        self.with_tsa = with_tsa
        multiple = 16 if hr_in else 4  # the pyramid has three levels
        self.spec = Spec("window", num_frame, 1 if hr_in else scale, multiple, center=center_frame_idx)

        if with_predeblur:
            self.predeblur = Predeblur(num_in_ch, num_feat, hr_in)
            self.conv_1x1 = nn.Conv2d(num_feat, num_feat, 1)
        else:
            self.conv_first = conv3x3(num_in_ch, num_feat)
        self.feature_extraction = residual_blocks(num_extract_block, num_feat)
        self.conv_l2_1 = conv3x3(num_feat, num_feat, stride=2)
        self.conv_l2_2 = conv3x3(num_feat, num_feat)
        self.conv_l3_1 = conv3x3(num_feat, num_feat, stride=2)
        self.conv_l3_2 = conv3x3(num_feat, num_feat)

        self.pcd_align = PCDAlignment(num_feat, deformable_groups)
        if with_tsa:
            self.fusion = TSAFusion(num_feat, num_frame, center_frame_idx)
        else:
            self.fusion = nn.Conv2d(num_frame * num_feat, num_feat, 1)

        self.reconstruction = residual_blocks(num_reconstruct_block, num_feat)
        self.factors = (2, 2) if hr_in or scale == 4 else (scale,)  # of the pixel shuffles
        if len(self.factors) == 2:
            self.upconv1 = conv3x3(num_feat, num_feat * 4)
            self.upconv2 = conv3x3(num_feat, 64 * 4)
        else:
            self.upconv1 = conv3x3(num_feat, 64 * scale**2)
        self.conv_hr = conv3x3(64, 64)
        self.conv_last = conv3x3(64, num_out_ch)

    def forward(self, lq: Tensor) -> Tensor:
        """Returns the restored centre frame (b, 3, scale·h, scale·w), not clamped.

        Args:
            lq: (b, num_frame, 3, h, w), RGB in [0, 1]; h and w are multiples of ``spec.multiple``.

        Raises:
            ValueError: the input has another number of frames, or a size that is not such a multiple.
        """
        self.check_input(lq)
        pyramid = [level.unflatten(0, lq.shape[:2]) for level in self.extract(lq.flatten(0, 1))]
        return self.from_features(pyramid, lq[:, self.center_frame_idx])

    def frame_features(self, frames: Tensor) -> list[Tensor]:
        """Returns the pyramid of frames (n, 3, h, w), and their halves of the first offset convolutions."""
        pyramid = self.extract(frames)
        return [*pyramid, *self.pcd_align.halves(pyramid)]

    def from_features(self, features: Sequence[Tensor], center: Tensor) -> Tensor:
        """Returns the restored centre frame (b, 3, scale·h, scale·w), not clamped.

        Args:
            features: of the window's frames, each (b, t, …): the pyramid, with or without the halves.
            center: (b, 3, h, w), the centre frame.
        """
        aligned = self.align(features)
        # TSA joins frames to one feature, which loses channels_last
        fused = self.fuse(aligned).contiguous(memory_format=layout_of(aligned.flatten(0, 1)))
        return self.reconstruct(fused, center)

    def align(self, features: Sequence[Tensor]) -> Tensor:
        """Returns the frames' features (b, t, c, h, w), aligned to the centre's."""
        return self.pcd_align(features[:3], self.center_frame_idx, features[3:])

    def fuse(self, aligned: Tensor) -> Tensor:
        """Returns one feature (b, c, h, w) of aligned features (b, t, c, h, w)."""
        return self.fusion(aligned if self.with_tsa else aligned.flatten(1, 2))

    def check_input(self, lq: Tensor) -> None:
        """Raises ValueError for a window the network cannot take."""
        t, (h, w) = lq.shape[1], lq.shape[-2:]
        if t != self.num_frame:
            raise ValueError(f"EDVR was built for num_frame {self.num_frame}, got a window of {t} frames")
        if h % self.spec.multiple or w % self.spec.multiple:
            raise ValueError(f"height and width must be multiples of {self.spec.multiple}, got {h}×{w}: pad, then crop")

    def extract(self, frames: Tensor) -> list[Tensor]:
        """Returns the features of frames (n, 3, h, w) at full, half and quarter size, each (n, c, h', w')."""
        level1 = self.conv_1x1(self.predeblur(frames)) if self.with_predeblur else lrelu(self.conv_first(frames))
        level1 = self.feature_extraction(level1)
        level2 = lrelu(self.conv_l2_2(lrelu(self.conv_l2_1(level1))))
        level3 = lrelu(self.conv_l3_2(lrelu(self.conv_l3_1(level2))))
        return [level1, level2, level3]

    def reconstruct(self, fused: Tensor, center: Tensor) -> Tensor:
        """Returns the frame made of the fused feature (b, c, h, w) and the centre frame (b, 3, h, w)."""
        x = self.reconstruction(fused)
        x = lrelu(F.pixel_shuffle(self.upconv1(x), self.factors[0]))
        if len(self.factors) == 2:
            x = lrelu(F.pixel_shuffle(self.upconv2(x), self.factors[1]))  # (b, 64, 4h, 4w)
        x = self.conv_last(lrelu(self.conv_hr(x)))
        scale = self.spec.scale
        base = center if self.hr_in else F.interpolate(center, scale_factor=scale, mode="bilinear", align_corners=False)
        return x + base


class PCDAlignment(nn.Module):
    """Aligns every frame's features to the centre frame's: pyramid, cascading and deformable convolution.

    Offsets are found at quarter size and refined upwards; a last deformable convolution refines the result.

    Reference: section 3.2 and figure 3 of the EDVR paper.
    Differs: takes all frames at once.
    """

    def __init__(self, num_feat: int, deformable_groups: int) -> None:
        super().__init__()
        c, levels = num_feat, ("l1", "l2", "l3")
        self.offset_conv1 = nn.ModuleDict({level: conv3x3(2 * c, c) for level in levels})
        self.offset_conv2 = nn.ModuleDict({level: conv3x3(c if level == "l3" else 2 * c, c) for level in levels})
        self.offset_conv3 = nn.ModuleDict({level: conv3x3(c, c) for level in levels[:2]})
        dcn = partial(ModulatedDeformConvPack, c, c, 3, padding=1, deformable_groups=deformable_groups)
        self.dcn_pack = nn.ModuleDict({level: dcn() for level in levels})
        self.feat_conv = nn.ModuleDict({level: conv3x3(2 * c, c) for level in levels[:2]})
        self.cas_offset_conv1 = conv3x3(2 * c, c)
        self.cas_offset_conv2 = conv3x3(c, c)
        self.cas_dcnpack = dcn()

    def halves(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Returns the frames' halves of the first offset convolutions; each frame needs them once, not once a window.

        ``pyramid`` holds features at full, half and quarter size, each (n, c, h', w'), as the halves are.
        """
        levels = zip(("l1", "l2", "l3"), pyramid, strict=True)
        return [half_conv(self.offset_conv1[level], frames) for level, frames in levels]

    def forward(self, pyramid: Sequence[Tensor], center: int, halves: Sequence[Tensor] = ()) -> Tensor:
        """Returns features (b, t, c, h, w), aligned to those of the frame ``center``.

        Args:
            pyramid: features at full, half and quarter size, each (b, t, c, h', w').
            center: index of the frame to align to.
            halves: see the method; each (b, t, c, h', w'). Without them they are computed here.
        """
        b, t = pyramid[0].shape[:2]
        references = [level[:, center] for level in pyramid]  # (b, c, h', w')
        half1, half2, half3 = halves or (None, None, None)

        offset = lrelu(conv_with_reference(self.offset_conv1["l3"], pyramid[2], references[2], half3))
        offset = lrelu(self.offset_conv2["l3"](offset))
        aligned = lrelu(self.dcn_pack["l3"](pyramid[2].flatten(0, 1), offset))
        finer = (("l2", pyramid[1], references[1], half2), ("l1", pyramid[0], references[0], half1))
        for level, frames, reference, half in finer:
            coarse_offset = upsample_x2(offset) * 2  # a pixel of the coarse level is two pixels here
            offset = lrelu(conv_with_reference(self.offset_conv1[level], frames, reference, half))
            offset = lrelu(self.offset_conv2[level](torch.cat([offset, coarse_offset], dim=1)))
            offset = lrelu(self.offset_conv3[level](offset))
            fine = self.dcn_pack[level](frames.flatten(0, 1), offset)
            aligned = self.feat_conv[level](torch.cat([fine, upsample_x2(aligned)], dim=1))
            aligned = lrelu(aligned) if level == "l2" else aligned

        offset = lrelu(conv_with_reference(self.cas_offset_conv1, aligned.unflatten(0, (b, t)), references[0]))
        offset = lrelu(self.cas_offset_conv2(offset))
        return lrelu(self.cas_dcnpack(aligned, offset)).unflatten(0, (b, t))


class TSAFusion(nn.Module):
    """Fuses aligned frames into one feature with temporal, then spatial, attention.

    A frame weighs, at each pixel, the sigmoid of its embedding's product with the centre frame's.

    Reference: section 3.3 and figure 4 of the EDVR paper.
    Differs: none.
    """

    def __init__(self, num_feat: int, num_frame: int, center_frame_idx: int) -> None:
        super().__init__()
        self.center_frame_idx = center_frame_idx
        self.temporal_attn1 = conv3x3(num_feat, num_feat)
        self.temporal_attn2 = conv3x3(num_feat, num_feat)
        self.feat_fusion = nn.Conv2d(num_frame * num_feat, num_feat, 1)
        self.spatial_attn1 = nn.Conv2d(num_frame * num_feat, num_feat, 1)
        self.spatial_attn2 = nn.Conv2d(num_feat * 2, num_feat, 1)
        self.spatial_attn3 = conv3x3(num_feat, num_feat)
        self.spatial_attn4 = nn.Conv2d(num_feat, num_feat, 1)
        self.spatial_attn5 = conv3x3(num_feat, num_feat)
        self.spatial_attn_l1 = nn.Conv2d(num_feat, num_feat, 1)
        self.spatial_attn_l2 = conv3x3(num_feat * 2, num_feat)
        self.spatial_attn_l3 = conv3x3(num_feat, num_feat)
        self.spatial_attn_add1 = nn.Conv2d(num_feat, num_feat, 1)
        self.spatial_attn_add2 = nn.Conv2d(num_feat, num_feat, 1)

    def forward(self, aligned: Tensor) -> Tensor:
        """Returns the fused feature (b, c, h, w) of aligned features (b, t, c, h, w)."""
        b, t = aligned.shape[:2]
        reference = self.temporal_attn1(aligned[:, self.center_frame_idx])  # (b, c, h, w)
        embedding = self.temporal_attn2(aligned.flatten(0, 1)).unflatten(0, (b, t))
        correlation = (embedding * reference.unsqueeze(1)).sum(dim=2, keepdim=True)  # (b, t, 1, h, w)
        weighted = (aligned * torch.sigmoid(correlation)).flatten(1, 2)  # (b, t·c, h, w)

        feature = lrelu(self.feat_fusion(weighted))
        attention = lrelu(self.spatial_attn1(weighted))
        attention = lrelu(self.spatial_attn2(_pool_x2(attention)))
        level = lrelu(self.spatial_attn_l1(attention))
        level = lrelu(self.spatial_attn_l2(_pool_x2(level)))
        level = upsample_x2(lrelu(self.spatial_attn_l3(level)))

        attention = lrelu(self.spatial_attn3(attention)) + level
        attention = self.spatial_attn5(upsample_x2(lrelu(self.spatial_attn4(attention))))
        added = self.spatial_attn_add2(lrelu(self.spatial_attn_add1(attention)))
        return feature * torch.sigmoid(attention) * 2 + added  # · 2: near 1 at initialisation


class Predeblur(nn.Module):
    """Deblurs frames with a three-level pyramid of residual blocks before they are aligned.

    Reference: section 3.1 of the EDVR paper (the PreDeblur module).
    Differs: none.
    """

    def __init__(self, num_in_ch: int, num_feat: int, hr_in: bool) -> None:
        super().__init__()
        self.hr_in = hr_in
        self.conv_first = conv3x3(num_in_ch, num_feat)
        if hr_in:
            self.stride_conv_hr1 = conv3x3(num_feat, num_feat, stride=2)
            self.stride_conv_hr2 = conv3x3(num_feat, num_feat, stride=2)
        self.stride_conv_l2 = conv3x3(num_feat, num_feat, stride=2)
        self.stride_conv_l3 = conv3x3(num_feat, num_feat, stride=2)
        self.resblock_l3 = ResidualBlock(num_feat)
        self.resblock_l2_1 = ResidualBlock(num_feat)
        self.resblock_l2_2 = ResidualBlock(num_feat)
        self.resblock_l1 = nn.ModuleList([ResidualBlock(num_feat) for _ in range(5)])

    def forward(self, frames: Tensor) -> Tensor:
        """Returns features (n, c, h, w), a quarter of that size with ``hr_in``, of frames (n, 3, h, w)."""
        level1 = lrelu(self.conv_first(frames))
        if self.hr_in:
            level1 = lrelu(self.stride_conv_hr2(lrelu(self.stride_conv_hr1(level1))))
        level2 = lrelu(self.stride_conv_l2(level1))
        level3 = lrelu(self.stride_conv_l3(level2))

        level2 = self.resblock_l2_1(level2) + upsample_x2(self.resblock_l3(level3))
        level2 = upsample_x2(self.resblock_l2_2(level2))
        level1 = self.resblock_l1[1](self.resblock_l1[0](level1)) + level2
        for block in self.resblock_l1[2:]:
            level1 = block(level1)
        return level1


def _pool_x2(x: Tensor) -> Tensor:
    """Returns maxima and means of 3×3 windows at half size: (b, 2c, h / 2, w / 2)."""
    return torch.cat([F.max_pool2d(x, 3, stride=2, padding=1), F.avg_pool2d(x, 3, stride=2, padding=1)], dim=1)
