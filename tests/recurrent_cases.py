"""Recurrent networks and clips made without a random generator, to compare with stored outputs of published ones."""

import torch
from edvr_cases import fill
from torch import Tensor, nn

BASIC = {"num_feat": 8, "num_block": 1}
PLUS_PLUS = {"mid_channels": 8, "num_blocks": 1}
CASES = {  # class, options, (t, h, w); with a small flow network and head
    "BasicVSR": ("BasicVSR", BASIC, (4, 36, 33)),
    "BasicVSR, two frames": ("BasicVSR", BASIC, (2, 16, 16)),
    "IconVSR": ("IconVSR", {**BASIC, "keyframe_stride": 3, "temporal_padding": 2}, (5, 15, 18)),
    "IconVSR, padding 3": ("IconVSR", {**BASIC, "keyframe_stride": 5, "temporal_padding": 3}, (8, 12, 16)),
    "BasicVSR++": ("BasicVSRPlusPlus", PLUS_PLUS, (4, 64, 66)),
    "BasicVSR++, odd length": ("BasicVSRPlusPlus", PLUS_PLUS, (3, 64, 64)),
    "BasicVSR++, x1": ("BasicVSRPlusPlus", {**PLUS_PLUS, "is_low_res_input": False}, (3, 256, 256)),
}
SLOW_CASES = {  # with SpyNet
    "BasicVSR with SpyNet": ("BasicVSR", BASIC, (3, 36, 33)),
    "BasicVSR++ with SpyNet": ("BasicVSRPlusPlus", PLUS_PLUS, (3, 64, 66)),
}
REAL = {"mid_channels": 4, "num_propagation_blocks": 1, "num_cleaning_blocks": 1}
REAL_CASES = {
    "RealBasicVSR": REAL,
    "RealBasicVSR, three passes": {**REAL, "dynamic_refine_thres": 1.0},
}
REAL_SIZE = (3, 20, 37)
HEAD = ("upconv", "conv_hr", "conv_last")  # stronger, so that the output shows the features


class QuickFlow(nn.Module):
    """Stands in for SpyNet: flows of a few pixels from one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 2, 3, padding=1)

    def forward(self, ref: Tensor, supp: Tensor) -> Tensor:
        """Returns (n, 2, h, w) of two frames (n, 3, h, w)."""
        return 4 * torch.tanh(self.conv(torch.cat([ref, supp], 1)))


def clip(size: tuple[int, int, int], moved: float = 0) -> Tensor:
    """Returns a clip of moving waves, (1, t, 3, h, w)."""
    t, h, w = size
    t, c, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (t, 3, h, w)), indexing="ij")
    return (0.5 + 0.25 * torch.sin(0.4 * x + 0.9 * t + moved) + 0.25 * torch.cos(0.3 * y - 0.7 * t + c)).unsqueeze(0)


def filled(network: nn.Module) -> nn.Module:
    """Returns the network with waves as parameters, small enough for flows of a few pixels."""
    fill(network)
    for name, parameter in network.named_parameters():
        parameter.data *= 1.5 if name.startswith(HEAD) else 0.4
    return network.double()


def quick(network: nn.Module) -> nn.Module:
    """Returns the network, filled, with a flow network and a head that take no time."""
    network.spynet = QuickFlow()
    network.upconv2 = nn.Conv2d(network.upconv1.in_channels, 16, 3, padding=1)
    network.conv_hr = nn.Conv2d(4, 4, 3, padding=1)
    network.conv_last = nn.Conv2d(4, 3, 3, padding=1)
    return filled(network)
