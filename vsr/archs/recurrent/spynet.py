"""SpyNet: optical flow by a pyramid of small networks."""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.ops import flow_warp
from vsr.ops.tensors import exporting
from vsr.registry import Positive

NUM_LEVELS = 6
UNIT = 2 ** (NUM_LEVELS - 1)  # sides have to be multiples of it
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


class SpyNet(nn.Module):
    """Estimates the flow between two frames from coarse to fine: each level refines the one below it.

    Everything is computed in float32 at least, also where the network's weights or its input have 16 bits.

    Args:
        flow_feat: channels of the first convolution of a level, which the others follow; the published weights have 32.

    Reference: Ranjan and Black, "Optical Flow Estimation using a Spatial Pyramid Network", CVPR 2017,
        https://arxiv.org/abs/1611.00850; the weights are those of https://github.com/sniklaus/pytorch-spynet.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, flow_feat: Positive = 32) -> None:
        super().__init__()
        self.basic_module = nn.ModuleList([FlowLevel(flow_feat) for _ in range(NUM_LEVELS)])
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, ref: Tensor, supp: Tensor) -> Tensor:
        """Returns the flow from ``ref`` to ``supp``, (n, 2, h, w), (x, y) in pixels, float32 or float64.

        ``supp`` at a position plus its flow shows what ``ref`` shows at the position.

        Args:
            ref: (n, 3, h, w), RGB in [0, 1], of any size; it is resized to multiples of 32.
            supp: the same of the other frame.
        """
        h, w = ref.shape[-2:]
        size = -(-h // UNIT) * UNIT, -(-w // UNIT) * UNIT
        # exported, autocast would be a graph of its own, which cannot be saved: the ratio of the sizes enters it
        has_none = exporting() or ref.is_meta
        with nullcontext() if has_none else torch.autocast(ref.device.type, enabled=False):
            flow = self.pyramid(self.prepared(ref, size), self.prepared(supp, size))
            if not is_resized((h, w), size):
                return flow
            flow = F.interpolate(flow, (h, w), mode="bilinear", align_corners=False)
            return torch.stack([flow[:, 0] * (w / size[1]), flow[:, 1] * (h / size[0])], 1)

    def prepared(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns frames resized and normalised, in float32 at least."""
        frames = frames.to(torch.promote_types(frames.dtype, torch.float32))
        if is_resized(frames.shape[-2:], size):
            frames = F.interpolate(frames, size, mode="bilinear", align_corners=False)
        mean, std = (  # a network of 16 bits has rounded them
            torch.tensor(values, dtype=frames.dtype, device=frames.device).view(1, 3, 1, 1)
            if buffer.dtype.itemsize < 4
            else buffer.to(frames.dtype)
            for values, buffer in ((MEAN, self.mean), (STD, self.std))
        )
        return (frames - mean) / std

    def pyramid(self, ref: Tensor, supp: Tensor) -> Tensor:
        """Returns the flow between prepared frames whose sides are multiples of 32."""
        frames = [(ref, supp)]
        for _ in self.basic_module[1:]:
            frames.insert(0, (F.avg_pool2d(frames[0][0], 2), F.avg_pool2d(frames[0][1], 2)))
        flow = ref.new_zeros(len(ref), 2, *frames[0][0].shape[-2:])
        for k, (level, (ref, supp)) in enumerate(zip(self.basic_module, frames, strict=True)):
            if k:
                flow = F.interpolate(flow, ref.shape[-2:], mode="bilinear", align_corners=True) * 2
            flow = flow + level(torch.cat([ref, flow_warp(supp, flow, padding="border"), flow], 1))
        return flow


def is_resized(size: Sequence[int], to: Sequence[int]) -> bool:
    """Returns whether frames are resized; in an exported network always, since one program serves every size."""
    return exporting() or tuple(size) != tuple(to)


class FlowLevel(nn.Module):
    """Estimates what a level adds to the flow: five 7×7 convolutions, with ReLU in between."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for given, made in pairwise((8, num_feat, 2 * num_feat, num_feat, (num_feat + 1) // 2, 2)):
            layers += [nn.Conv2d(given, made, 7, padding=3), nn.ReLU(inplace=True)]
        self.basic_module = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Returns (n, 2, h, w) of (n, 8, h, w), computed in the input's dtype: frame, warped frame, flow."""
        for layer in self.basic_module:
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                x = F.conv2d(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype), padding=3)
            else:
                x = layer(x)
        return x
