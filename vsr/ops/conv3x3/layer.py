"""The 3×3 convolution layer."""

from torch import Tensor, nn

from vsr.ops.conv3x3.op import conv3x3


class Conv3x3(nn.Conv2d):
    """A 3×3 convolution of stride 1 that keeps the size; ``vsr.ops.conv3x3`` computes it.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        bias: whether to add a learnable bias.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Returns (n, out_channels, h, w) of a feature (n, in_channels, h, w)."""
        return conv3x3(input, self.weight, self.bias)
