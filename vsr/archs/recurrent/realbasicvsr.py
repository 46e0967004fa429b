"""RealBasicVSR: BasicVSR behind a module that cleans degraded frames."""

from typing import Annotated

import torch
from torch import Tensor, nn

from vsr.archs.layers import conv3x3
from vsr.archs.recurrent.basicvsr import BasicVSR
from vsr.archs.recurrent.parts import ConvResidualBlocks
from vsr.contracts import Spec
from vsr.registry import NotNegative, Positive, above, register

MAX_PASSES = 3
ONE_PASS = 255.0  # a threshold that every residue is below: nothing has to be measured


@register("arch")
class RealBasicVSRNet(nn.Module):
    """Cleans the frames of a clip, then restores them, ×4, by BasicVSR.

    The constructor freezes the flow network: it is never trained. Parameter names are those of the published weights.

    Args:
        mid_channels: channels of the features.
        num_propagation_blocks: residual blocks of a branch of BasicVSR.
        num_cleaning_blocks: residual blocks of the cleaning module.
        dynamic_refine_thres: frames are cleaned up to three times, until the mean change of all frames in the batch is
            below this number of 255 grey levels. 255 cleans once, and is right for training; the paper tests with 5.
        is_fix_cleaning: freezes the cleaning module.
        is_sequential_cleaning: cleans frame by frame, each until its own change is small; needs less memory.

    Reference: Chan et al., "Investigating Tradeoffs in Real-World Video Super-Resolution", CVPR 2022,
        https://arxiv.org/abs/2111.12704; the released model in https://github.com/open-mmlab/mmagic.
    Differs: none.
    """

    def __init__(
        self,
        mid_channels: Positive = 64,
        num_propagation_blocks: NotNegative = 20,
        num_cleaning_blocks: NotNegative = 20,
        dynamic_refine_thres: Annotated[float, above(0)] = 255,
        is_fix_cleaning: bool = False,
        is_sequential_cleaning: bool = False,
    ) -> None:
        super().__init__()
        self.spec = Spec(reads="clip", scale=4)
        self.threshold = dynamic_refine_thres
        self.is_sequential_cleaning = is_sequential_cleaning
        trunk = ConvResidualBlocks(3, mid_channels, num_cleaning_blocks)
        self.image_cleaning = nn.Sequential(trunk, conv3x3(mid_channels, 3)).requires_grad_(not is_fix_cleaning)
        self.basicvsr = BasicVSR(mid_channels, num_propagation_blocks)
        self.basicvsr.spynet.requires_grad_(False)

    def forward(self, lq: Tensor, return_lqs: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Returns the restored clip (b, t, 3, 4h, 4w), not clamped, of (b, t, 3, h, w), RGB in [0, 1].

        With ``return_lqs`` it also returns the cleaned clip, (b, t, 3, h, w), for a loss of its own.
        """
        cleaned = self.clean(lq)
        restored = self.basicvsr(cleaned)
        return (restored, cleaned) if return_lqs else restored

    def clean(self, lq: Tensor) -> Tensor:
        """Returns the cleaned clip, of the input's shape.

        With a threshold below 255, the number of passes depends on the values: ``torch.compile`` compiles the rest.
        """
        if self.is_sequential_cleaning:
            return torch.cat([self.clean_together(lq[:, i : i + 1]) for i in range(lq.shape[1])], 1)
        return self.clean_together(lq)

    def clean_together(self, lq: Tensor) -> Tensor:
        """Returns frames (b, t, 3, h, w) that are cleaned equally often."""
        for _ in range(MAX_PASSES):
            residue = self.image_cleaning(lq.flatten(0, 1)).view_as(lq)
            lq = lq + residue
            if self.threshold >= ONE_PASS or residue.detach().abs().mean() < self.threshold / 255:
                break
        return lq
