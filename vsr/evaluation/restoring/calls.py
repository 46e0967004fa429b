"""Calls a network for the steps of restoration.

Each frame's features are computed once. Frames may be restored in tiles, and in 16 bits. Where memory runs out, the
calls become smaller.
"""

from collections import deque
from collections.abc import Generator, Mapping, Sequence

import torch
from torch import Tensor, nn

from vsr.archs.build import spec_of
from vsr.contracts import HasFrameFeatures, Precision, Spec
from vsr.engine.guards import says_out_of_memory
from vsr.engine.precision import restoration_type
from vsr.evaluation.restoring.tiles import Tile, Tiling, tiling, valid_side
from vsr.utils.errors import UserError
from vsr.utils.log import logger

TILE_OVERLAP = 32  # pixels of LQ that neighbouring tiles share; docs/testing.md has the errors by overlap
OVERLAP = 5  # frames that a segment reads before and after its own; docs/testing.md has the errors by overlap
SMALLEST_TILE = 64
SMALLEST_SEGMENT = 4  # frames that a call restores

Part = tuple[Sequence[int], range]  # the frames that a call reads, and those of its output that are kept


class Calls:
    """Calls a network for one part of a clip after another.

    Features of frames are kept from one call to the next. Where memory runs out, this and the following calls restore
    fewer frames or smaller tiles, and the log has a line of it.

    Args:
        network: on the device, in evaluation mode.
        device: the network's.
        precision: see restoration_type.
        tile: side of a tile in pixels of LQ; None is the whole frame.
        tile_overlap: pixels of LQ that neighbouring tiles share.
        keep_features: False computes a frame's features for each window, which takes less memory.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        precision: Precision,
        tile: int | None,
        tile_overlap: int,
        keep_features: bool = True,
    ) -> None:
        if tile is not None and tile <= tile_overlap:
            raise UserError(f"tile {tile} has to be larger than tile_overlap {tile_overlap}")
        self.network, self.device, self.spec = network, device, spec_of(network)
        self.dtype = restoration_type(precision, device)[0]
        self.tile, self.tile_overlap = tile, tile_overlap
        self.segment: int | None = None  # frames that a call restores; None is as many as a step asks for
        self.keeps_features = keep_features and self.spec.reads == "window" and isinstance(network, HasFrameFeatures)
        self.features: dict[int, dict[tuple[int, int], Sequence[Tensor]]] = {}  # by frame, and corner of the tile
        self.tilings: dict[tuple[int, int], Tiling] = {}  # by size of the frame

    def forget(self) -> None:
        """Forgets the features of frames, before another clip's frames have the same indices."""
        self.features.clear()

    def outputs(self, part: Part, frames: Mapping[int, Tensor]) -> Generator[tuple[int, Tensor]]:
        """Yields index and output, (3, scale·h, scale·w) float32, of the frames that the part gives.

        ``frames`` holds the frames that it reads, (3, h, w) in [0, 1] on the device.
        """
        if self.spec.reads == "clip" and len(part[0]) < self.spec.min_frames:
            name, least = type(self.network).__name__, self.spec.min_frames
            raise UserError(f"{name} reads clips of at least {least} frames, but one has {len(part[0])}: leave it out")
        parts = deque([part])
        while parts:
            part = parts.popleft()
            if self.segment is not None and len(part[1]) > self.segment:
                parts.extendleft(reversed(_halves(part)))
                continue
            output = self._output(part, frames)
            if output is None:  # memory ran out
                parts.appendleft(part)
            else:
                yield from zip(part[1], output, strict=True)

    def _output(self, part: Part, frames: Mapping[int, Tensor]) -> Tensor | None:
        """Returns the output of a part, (len(gives), 3, …); None if memory ran out, and the next call is smaller."""
        try:
            with torch.inference_mode():
                return self._all_tiles(part, frames)
        except (MemoryError, RuntimeError) as error:
            if not says_out_of_memory(error):
                raise
            text = str(error)
        # here, because the error's traceback holds the tensors of the call
        self._shrink(part, next(iter(frames.values())).shape[1:], text)
        return None

    def _shrink(self, part: Part, size: Sequence[int], text: str) -> None:
        """Makes the next call need less memory than that of ``part``, whose frames have ``size``."""
        self.features.clear()
        self.tilings.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_accumulated_memory_stats(self.device)  # a later error is not this one: see guards
        side = self._side(size, self.tile)
        smaller = max(side // 2, SMALLEST_TILE)
        if len(part[1]) > SMALLEST_SEGMENT:
            self.segment = -(-len(part[1]) // 2)
            logger.warning("out of memory: going on with segments of %d frames", self.segment)
        elif self.keeps_features and side < max(size):
            self.keeps_features = False
            logger.warning("out of memory: going on without keeping the features of frames")
        elif self._side(size, smaller) < side:
            self.tile = self._side(size, smaller)
            logger.warning("out of memory: going on with tiles of %d pixels", self.tile)
        else:
            raise UserError(f"out of memory, even with tiles of {side} pixels: {text.splitlines()[0][:200]}")

    def _side(self, size: Sequence[int], tile: int | None) -> int:
        """Returns the longer side of the tiles of a frame."""
        return max(valid_side(tile, length, self.tile_overlap, self.spec) for length in size)

    def _all_tiles(self, part: Part, frames: Mapping[int, Tensor]) -> Tensor:
        reads, gives = part
        size = frames[reads[0]].shape[1], frames[reads[0]].shape[2]
        if size not in self.tilings:
            self.tilings[size] = tiling(size, self.tile, self.tile_overlap, self.spec, self.device)
        tiles, weights = self.tilings[size]
        first = reads.index(gives[0]) if self.spec.reads == "clip" else 0
        kept = slice(first, first + len(gives))
        for index in self.features.keys() - set(reads):
            del self.features[index]
        if len(tiles) == 1:
            return self._one_tile(reads, frames, tiles[0])[kept]
        h, w = (length * self.spec.scale for length in size)
        blended = torch.zeros(len(gives), 3, h, w, device=self.device)
        for tile, weight in zip(tiles, weights, strict=True):
            output = self._one_tile(reads, frames, tile)[kept].mul_(weight)
            tile.enlarged(self.spec.scale).of(blended).add_(output)
        return blended

    def _one_tile(self, reads: Sequence[int], frames: Mapping[int, Tensor], tile: Tile) -> Tensor:
        """Returns the network's output of a tile as float32: (1, 3, …) of a window, (t, 3, …) of a clip."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            if self.keeps_features and isinstance(self.network, HasFrameFeatures):
                corner = tile.rows.start, tile.columns.start
                features = [self._features(index, corner, tile.of(frames[index])) for index in reads]
                window = [torch.cat(parts).unsqueeze(0) for parts in zip(*features, strict=True)]
                center = len(reads) // 2 if self.spec.center is None else self.spec.center
                output = self.network.from_features(window, tile.of(frames[reads[center]]).unsqueeze(0))
            else:
                output = self.network(torch.stack([tile.of(frames[index]) for index in reads]).unsqueeze(0))
        h, w = tile.of(frames[reads[0]]).shape[1:]
        check_output(output, (1, len(reads), 3, h, w), self.spec, type(self.network).__name__)
        return (output[0] if self.spec.reads == "clip" else output).float()

    def _features(self, index: int, corner: tuple[int, int], frame: Tensor) -> Sequence[Tensor]:
        known = self.features.setdefault(index, {})
        if corner not in known:
            assert isinstance(self.network, HasFrameFeatures)
            # 5 to 10 % less processor time on CPUs; PyTorch's convolutions keep the format
            format = torch.channels_last if self.device.type == "cpu" else torch.contiguous_format
            known[corner] = self.network.frame_features(frame.unsqueeze(0).contiguous(memory_format=format))
        return known[corner]


def check_output(output: object, input_shape: tuple[int, ...], spec: Spec, name: str) -> None:
    """Raises UserError if the output for (1, t, 3, h, w) has another shape than the network's spec says."""
    _, t, c, h, w = input_shape
    expected = (1, *((t,) if spec.reads == "clip" else ()), c, h * spec.scale, w * spec.scale)
    got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if got != expected:
        text = f"{name} returned {got} for an input of {input_shape}, expected {expected}"
        raise UserError(f"{text} as its spec says (reads: {spec.reads}, scale: {spec.scale})")


def _halves(part: Part) -> list[Part]:
    """Returns a part of a clip as two; each reads as many frames beyond its own as the part, at least OVERLAP."""
    reads, gives = part
    before = max(gives.start - reads[0], OVERLAP)
    after = max(reads[-1] + 1 - gives.stop, OVERLAP)
    middle = gives.start + -(-len(gives) // 2)
    halves = []
    for own in (range(gives.start, middle), range(middle, gives.stop)):
        first, last = max(own.start - before, reads[0]), min(own.stop + after, reads[-1] + 1)
        halves.append((range(first, last), own))
    return halves
