"""Tiles of a frame: where they lie, and the weights that blend their outputs."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vsr.contracts import Spec


class Tile(NamedTuple):
    """A part of a frame, in pixels of LQ."""

    rows: slice
    columns: slice

    def of(self, frames: Tensor) -> Tensor:
        """Returns this part of frames (…, h, w)."""
        return frames[..., self.rows, self.columns]

    def enlarged(self, scale: int) -> "Tile":
        """Returns the same part of a frame that is ``scale`` times as large."""
        rows, columns = (slice(part.start * scale, part.stop * scale) for part in self)
        return Tile(rows, columns)


class Tiling(NamedTuple):
    """The tiles of a frame, row by row, and the weight of each at every pixel of the output."""

    tiles: list[Tile]
    weights: list[Tensor]  # (scale·h, scale·w) of the tile; over all tiles they sum to 1


def tiling(size: tuple[int, int], tile: int | None, overlap: int, spec: Spec, device: torch.device) -> Tiling:
    """Returns equal tiles that cover a frame and share at least ``overlap`` pixels with each neighbour.

    Sides and positions are multiples of ``spec.multiple``. Outputs are blended in the middle half of the shared pixels;
    a tile's outermost quarter, where its output differs most from the whole frame's, has weight 0.

    Args:
        size: height and width of the frame, valid for the network.
        tile: side of a tile in pixels; a frame that is smaller has one tile along that axis. None is the whole frame.
        overlap: see above.
        spec: of the network.
        device: of the weights.
    """
    sides = [valid_side(tile, length, overlap, spec) for length in size]
    starts = [starts_of(length, side, overlap, spec.multiple) for length, side in zip(size, sides, strict=True)]
    shares = [_shares(own, side, spec.scale, device) for own, side in zip(starts, sides, strict=True)]
    tiles = [Tile(slice(y, y + sides[0]), slice(x, x + sides[1])) for y in starts[0] for x in starts[1]]
    return Tiling(tiles, [rows.unsqueeze(1) * columns for rows in shares[0] for columns in shares[1]])


def valid_side(tile: int | None, length: int, overlap: int, spec: Spec) -> int:
    """Returns the smallest side of at least ``tile`` pixels that the network reads, with room for the overlap.

    ``length`` is the frame's side, the most, and the side of a tile of None.
    """
    if tile is None:
        return length
    return min(-(-max(tile, spec.min_size, overlap + spec.multiple) // spec.multiple) * spec.multiple, length)


def starts_of(length: int, side: int, overlap: int, multiple: int) -> list[int]:
    """Returns the first pixels of tiles of this side along an axis of this length, spread evenly."""
    if side == length:
        return [0]
    step = (side - overlap) // multiple * multiple
    count = -(-(length - side) // step) + 1
    return [i * (length - side) // ((count - 1) * multiple) * multiple for i in range(count)]


def _shares(starts: Sequence[int], side: int, scale: int, device: torch.device) -> list[Tensor]:
    """Returns each tile's weights along an axis, (scale·side,), which sum to 1 at each pixel."""
    length = (starts[-1] + side) * scale
    weights = torch.zeros(len(starts), length, device=device)
    position = torch.arange(side * scale, device=device) + 0.5
    for own, start, before, after in zip(weights, starts, [None, *starts], [*starts[1:], None], strict=False):
        ramp = torch.ones(side * scale, device=device)
        if before is not None:
            ramp = ramp.minimum(_rising(position / ((before + side - start) * scale)))
        if after is not None:
            ramp = ramp.minimum(_rising((side * scale - position) / ((start + side - after) * scale)))
        own[start * scale : (start + side) * scale] = ramp
    weights = weights / weights.sum(0)
    return [own[start * scale : (start + side) * scale] for own, start in zip(weights, starts, strict=True)]


def _rising(share: Tensor) -> Tensor:
    """Returns weights that rise from 0 to 1 in the middle half of the overlap, across which ``share`` is 0 to 1."""
    return ((share - 0.25) * 2).clamp(0, 1)
