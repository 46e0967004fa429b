"""Fuses the query and the read of a memory into one feature."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from vsr.memory.hops import Memory

Fuse = Literal["add", "concat"]


class MemoryFusion(nn.Module):
    """Reads a memory and fuses its query u and read o into a feature of the sentences' width.

    ``add``: y = H u + o. ``concat``: y = P [u; o], from 2e channels to c. H and P are 1×1 convolutions.

    Args:
        channels: c, of query, sentences and result.
        map_size: (h, w) of the training feature maps.
        memory: builds the memory of these two.
        fuse: ``add`` requires embeddings of the sentences' width.
        zero: adds a last 1×1 convolution that starts at zero, for a branch added to a pretrained network.
    """

    def __init__(
        self, channels: int, map_size: tuple[int, int], memory: Callable[..., Memory], fuse: Fuse, zero: bool = False
    ) -> None:
        super().__init__()
        self.memory = memory(channels, map_size)
        e = self.memory.embed_channels
        self.fuse = fuse
        if fuse == "add" and e != channels:
            raise ValueError(
                f"fusion: add sums {channels} feature channels and embed_channels {e}; "
                "make them equal, or use fusion: concat"
            )
        self.projection = nn.Conv2d(e if fuse == "add" else 2 * e, channels, 1)
        self.output: nn.Module = nn.Identity()
        if zero:
            self.output = nn.Conv2d(channels, channels, 1, bias=False)
            nn.init.zeros_(self.output.weight)

    def forward(self, query: Tensor, sentences: Tensor) -> Tensor:
        """Returns y (b, c, h, w) for a query (b, c, h, w) and sentences (b, t, c, h, w), oldest first."""
        u, read, _ = self.memory(query, sentences)
        fused = self.projection(u) + read if self.fuse == "add" else self.projection(torch.cat([u, read], 1))
        return self.output(fused)
