"""EDVR whose fusion asks a memory of the aligned frames."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from vsr.archs.edvr import EDVR
from vsr.archs.layers import lrelu
from vsr.memory import Memory
from vsr.memory.addressing import Flatten
from vsr.memory.fusion import Fuse, MemoryFusion
from vsr.registry import Component, NotNegative, Positive, Shared, register

PIXELS_PER_POSITION = 4  # pixels of ground truth per position of the features
PYRAMID = ("conv_l2_1", "conv_l2_2", "conv_l3_1", "conv_l3_2", "pcd_align")


def maps_of_crops(gt_size: object) -> list[int] | None:
    """Returns height and width of the features of crops of ``gt_size`` pixels; None where there are none."""
    positions = gt_size // PIXELS_PER_POSITION if isinstance(gt_size, int) else 0
    return [positions] * 2 if positions > 0 else None


@register("arch")
class EDVRMemory(EDVR):
    """Restores the centre frame: extraction → PCD alignment → memory → reconstruction, as EDVR but for the fusion.

    The memory is asked with the centre frame's aligned feature; its sentences are all frames' aligned features, in
    order of time. A subclass, because its parameters have to keep EDVR's names: published EDVR weights load wherever
    the parts are the same (``path.strict_load_g: false``), and everything new is called ``fusion.…``.

    Args:
        memory: the read, ``{type: pixsim | pixwise | pixsentence, …}``.
        fusion: add (y = H u + o: embed_channels is num_feat) or concat (y = P [u; o], 2 · embed_channels wide).
        memory_position: replace_tsa fuses by the memory alone. before_tsa adds y to the centre's aligned feature,
            after_tsa to TSA's result; there y starts at zero, so that a pretrained EDVR starts unchanged.
        with_pcd: aligns the frames; without, the pyramid's convolutions go, too, and the memory has to find motion.
        map_size: height and width of the training features; pixsim's temperature starts from it, ``embedding: fc`` is
            made for it, and ``crop`` is checked against it. By default a quarter of ``datasets.train.gt_size``.

    Further arguments as EDVR's.

    Raises:
        ValueError: options that do not fit each other.

    Reference: the original project's README names the experiments; how the memory is asked and fused is our reading of
        it (docs/memory.md).
    """

    def __init__(
        self,
        memory: Annotated[Callable[..., Memory], Component("memory")],
        fusion: Fuse = "add",
        memory_position: Literal["replace_tsa", "before_tsa", "after_tsa"] = "replace_tsa",
        with_pcd: bool = True,
        map_size: Annotated[tuple[int, int], Shared("datasets.train.gt_size", maps_of_crops)] = (64, 64),
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
    ) -> None:
        keeps_tsa = memory_position != "replace_tsa"
        super().__init__(
            num_in_ch=num_in_ch,
            num_out_ch=num_out_ch,
            num_feat=num_feat,
            num_frame=num_frame,
            deformable_groups=deformable_groups,
            num_extract_block=num_extract_block,
            num_reconstruct_block=num_reconstruct_block,
            center_frame_idx=center_frame_idx,
            hr_in=hr_in,
            with_predeblur=with_predeblur,
            with_tsa=keeps_tsa,
        )
        self.memory_position = memory_position
        self.with_pcd = with_pcd
        memory_fusion = MemoryFusion(num_feat, map_size, memory, fusion, zero=keeps_tsa)
        if keeps_tsa:
            self.fusion.memory_fusion = memory_fusion
        else:
            self.fusion = memory_fusion
        if not with_pcd:
            for name in PYRAMID:
                delattr(self, name)
        has_pyramid = with_pcd or keeps_tsa or with_predeblur  # otherwise no level of half size is left
        self.spec = self.spec._replace(
            multiple=self.spec.multiple if has_pyramid else 1,
            map_size=map_size,
            pixels_per_position=PIXELS_PER_POSITION,
            is_fixed_to_map=any(isinstance(part, Flatten) for part in memory_fusion.modules()),
        )

    @property
    def memory_fusion(self) -> MemoryFusion:
        """The part that EDVR does not have."""
        part = self.fusion.memory_fusion if self.with_tsa else self.fusion
        assert isinstance(part, MemoryFusion), "the constructor puts it there"
        return part

    def frame_features(self, frames: Tensor) -> list[Tensor]:
        """Returns the features of frames (n, 3, h, w) that do not depend on their window; see EDVR."""
        return super().frame_features(frames) if self.with_pcd else self.extract(frames)

    def extract(self, frames: Tensor) -> list[Tensor]:
        """Returns the pyramid of frames (n, 3, h, w), or without PCD module their features, (n, c, h, w)."""
        if self.with_pcd:
            return super().extract(frames)
        features = self.conv_1x1(self.predeblur(frames)) if self.with_predeblur else lrelu(self.conv_first(frames))
        return [self.feature_extraction(features)]

    def align(self, features: Sequence[Tensor]) -> Tensor:
        """Returns the frames' features (b, t, c, h, w), aligned to the centre's where there is a PCD module."""
        return super().align(features) if self.with_pcd else features[0]

    def fuse(self, aligned: Tensor) -> Tensor:
        """Returns one feature (b, c, h, w) of aligned features (b, t, c, h, w) and the memory's read."""
        center = self.center_frame_idx
        fused = self.memory_fusion(aligned[:, center], aligned)
        if self.memory_position == "before_tsa":
            asked = (aligned[:, center] + fused).unsqueeze(1)
            return self.fusion(torch.cat([aligned[:, :center], asked, aligned[:, center + 1 :]], 1))
        return self.fusion(aligned) + fused if self.memory_position == "after_tsa" else fused
