"""The maps whose inner products are the scores: embedded, and reduced (``flat2d``), flattened (``fc``) or normalised.

The read sums the sentences themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.registry import NotNegative

Normalize = Literal["none", "cosine", "concat"]
Embedding = Literal["conv", "conv3x3", "fc"]


@dataclass(frozen=True)
class Flat2d:
    """Reduces the maps used for addressing by a strided convolution of (2·pad + 1)² taps.

    Args:
        stride: 1 or 2: the reduced maps, and the weight maps, have 1/stride of the rows and columns.
        pad: taps on each side.
    """

    stride: Literal[1, 2] = 1
    pad: NotNegative = 3


def checked_window(crop: int, map_size: tuple[int, int], embedding: Embedding, flat2d: Flat2d | None) -> int:
    """Returns the odd window R of ``crop``; 1 compares equal positions only. Raises ValueError if it does not fit."""
    if crop % 2 == 0 and crop != 0:
        raise ValueError(f"crop is {crop}; the window needs a middle: choose 0 (no search), or an odd number")
    window = max(crop, 1)
    if embedding == "fc" and window > 1:
        raise ValueError(f"crop is {crop}, but embedding: fc compares whole maps; choose crop: 0 or embedding: conv")
    stride = 1 if flat2d is None else flat2d.stride
    height, width = (-(-size // stride) for size in map_size)  # rounded up
    largest = 2 * max(height, width) - 1
    if window > largest:
        raise ValueError(f"crop is {crop}, larger than the map: on {height}×{width} a window of {largest} covers all")
    return window


class Addressing(nn.Module):
    """Computes the query map and the key maps whose inner products are the scores.

    Where keys are only 1×1 embeddings (``conv``), they are never computed: ⟨u, A s⟩ = ⟨Aᵀu, s⟩, so Aᵀu is compared
    with the sentences as they are. That saves t maps, their gradients and t convolutions, and gives the same scores.

    Args:
        channels: e, of the embeddings.
        map_size: (h, w) of the maps, fixed with ``fc``.
        embedding: ``conv`` and ``conv3x3`` compare maps; ``fc`` one vector a map.
        flat2d: reduction of the maps.
        normalize: ``cosine`` compares directions: the inner product of L2-normalised channels times a learned
            temperature, √e at first, where unrelated vectors score as widely as without normalisation.
    """

    def __init__(
        self,
        channels: int,
        map_size: tuple[int, int],
        embedding: Embedding,
        flat2d: Flat2d | None,
        normalize: Normalize,
    ) -> None:
        super().__init__()
        if embedding == "fc" and flat2d is not None:
            raise ValueError("embedding: fc already reduces the whole map to one vector; remove flat2d")
        self.scale = channels**-0.5
        self.reduction: nn.Module | None = None
        if embedding == "fc":
            self.reduction = Flatten(channels, map_size)
        elif flat2d is not None:
            taps = 2 * flat2d.pad + 1
            self.reduction = nn.Conv2d(channels, channels, taps, flat2d.stride, flat2d.pad, bias=False)
        self.temperature = nn.Parameter(torch.tensor(channels**0.5)) if normalize == "cosine" else None

    def forward(self, query: Tensor, sentences: Tensor, embedding: nn.Conv2d) -> tuple[Tensor, Tensor]:
        """Returns the query map and the key maps; the keys are ``sentences`` itself where that gives the same scores.

        ``query`` is its embedding u, (b, e, h, w); ``sentences`` are (b, t, c, h, w); ``embedding`` is A, from c to e.
        """
        if self.reduction is None and self.temperature is None and embedding.kernel_size == (1, 1):
            transposed = embedding.weight.transpose(0, 1) * self.scale  # (c, e, 1, 1)
            return F.conv2d(query, transposed), sentences
        reduce = self.reduction or nn.Identity()
        keys = reduce(embedding(sentences.flatten(0, 1)))
        query = reduce(query)
        if self.temperature is None:
            query = query * self.scale
        else:
            query, keys = F.normalize(query, dim=1) * self.temperature, F.normalize(keys, dim=1)
        return query, keys.unflatten(0, sentences.shape[:2])


class Flatten(nn.Module):
    """Maps (b, e, h, w) of one size to (b, e, 1, 1) by a fully connected layer."""

    def __init__(self, channels: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        self.map_size = map_size
        self.linear = nn.Linear(channels * map_size[0] * map_size[1], channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (b, e, 1, 1)."""
        if tuple(x.shape[-2:]) != self.map_size:
            raise ValueError(
                f"embedding: fc was made for maps of {self.map_size[0]}×{self.map_size[1]} and got "
                f"{x.shape[-2]}×{x.shape[-1]}; test at the size of training, or use embedding: conv"
            )
        return self.linear(x.flatten(1))[..., None, None]


def by_phase(
    read: Callable[[Tensor], tuple[Tensor, Tensor | None]], values: Tensor, stride: int
) -> tuple[Tensor, Tensor | None]:
    """Reads full-size values (b, t, c, h, w) with the weights of maps reduced by ``stride``.

    Position x has the weights of the reduced position ⌊x / stride⌋ (nearest upsampling), and a shift of one reduced
    position is a shift of ``stride`` positions. Positions with equal x mod stride never meet the others: ``read`` is
    called with the values of each such phase, (b, t, c, ⌈h / stride⌉ or less, …), and returns its read and weights or
    None, (b, …, ·, ·), which are joined to (b, …, h, w).
    """
    if stride == 1:
        return read(values)
    starts = [(row, column) for row in range(stride) for column in range(stride)]
    phases = [(..., slice(row, None, stride), slice(column, None, stride)) for row, column in starts]
    phases = [phase for phase in phases if values[phase].numel() or not values.numel()]
    parts = [read(values[phase]) for phase in phases]

    def together(maps: list[Tensor]) -> Tensor:
        whole = maps[0].new_empty(*maps[0].shape[:-2], *values.shape[-2:])
        for phase, part in zip(phases, maps, strict=True):
            whole[phase] = part
        return whole

    weights = [weight for _, weight in parts if weight is not None]
    return together([total for total, _ in parts]), together(weights) if weights else None
