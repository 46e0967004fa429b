"""The memory that restoring a film takes, estimated from shapes alone, and the segments and tiles that fit."""

import os
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any
from weakref import finalize

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vsr.archs.build import REFUSALS
from vsr.evaluation.restore import padded_size
from vsr.evaluation.restoring.calls import SMALLEST_SEGMENT, SMALLEST_TILE, Calls
from vsr.evaluation.restoring.reading import FRAMES_AHEAD
from vsr.evaluation.restoring.tiles import starts_of, valid_side
from vsr.utils.allocator import peak_memory
from vsr.utils.files import size_text
from vsr.utils.log import logger
from vsr.video.film import Film
from vsr.video.network import Loaded
from vsr.video.pictures import Size
from vsr.video.target import Settings

WAITING = 4  # restored frames that wait for the encoder
ENCODING = 60  # frames that an encoder holds, of which libx264 looks 40 ahead
HEAP = 2  # a CPU's C library keeps freed memory, and holds so many times the tensors: 1.7 to 2.3 times, measured
LIBRARIES = 100_000_000  # bytes that PyTorch's libraries take with their first calls on a CPU
FITTED = "tile", "segment", "keep_features"  # settings that follow from the free memory
COUNTED = 5, 10  # frames of the clips that are counted; each more frame of a longer one takes as much


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is entered: those that live now, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls the operator and counts its results."""
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor):
                storage = result.untyped_storage()
                if storage._cdata not in self._sizes:
                    self._sizes[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    finalize(storage, self._end, storage._cdata)
        return results

    def _end(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def fitted(
    loaded: Loaded, film: Film, longest: int, size: Size, settings: Settings, may_change: bool = True
) -> tuple[Settings, str]:
    """Returns the settings with the segment and the tile that fit into the free memory, and the estimate in words.

    Args:
        loaded: the network.
        film: the input.
        longest: frames of its longest shot.
        size: of the output.
        settings: the command line's. One line of the log says where its segment or tile is too large.
        may_change: False keeps them, since a resumed run has those of its start.
    """
    free, given = free_memory(settings.device), settings
    while (needed := _needed(loaded, film, longest, size, settings)) is not None and needed > free:
        smaller = _smaller(settings, loaded, film)
        if smaller is None or not may_change:
            break
        settings = smaller
    on_gpu = settings.device.type == "cuda"
    kind = "GPU memory" if on_gpu else "memory"
    if needed is None:
        return settings, f"{size_text(free)} of {kind} free"
    if settings != given:
        tiles = f"tiles of {settings.tile} pixels" if settings.tile else "whole frames"
        tiles += "" if settings.keep_features else ", whose features are computed for each window"
        kept = f"segments of {settings.segment} frames, {tiles}" if loaded.spec.reads == "clip" else tiles
        logger.warning("%s of %s are free, so that smaller parts are restored: %s", size_text(free), kind, kept)
    if needed > free:
        logger.warning("the smallest parts may still be too large: about %s are needed", size_text(needed))
    held = torch.cuda.memory_allocated(settings.device) if on_gpu else peak_memory(settings.device) * 2**30
    return settings, f"about {size_text(held + needed)} of {kind} ({size_text(free)} free)"


def _smaller(settings: Settings, loaded: Loaded, film: Film) -> Settings | None:
    """Returns the next settings that take less memory: shorter segments, then smaller tiles; None of the smallest."""
    if loaded.spec.reads == "clip" and settings.segment > SMALLEST_SEGMENT:
        return settings._replace(segment=max(settings.segment // 2, SMALLEST_SEGMENT))
    if loaded.spec.reads == "window" and settings.tile is not None and settings.keep_features:
        return settings._replace(keep_features=False)
    side = min(settings.tile or film.height + film.width, max(film.height, film.width))
    tile = max(side // 2, SMALLEST_TILE, settings.tile_overlap + 1)
    return settings._replace(tile=tile, keep_features=True) if tile < side else None


def _needed(loaded: Loaded, film: Film, longest: int, size: Size, settings: Settings) -> int | None:
    """Returns the bytes of the device's memory that restoring takes; None of a network that shapes alone do not run."""
    spec, length, given = loaded.spec, loaded.spec.num_frames or 1, 1
    if spec.reads == "clip":
        given = min(settings.segment, longest)
        length = max(min(settings.segment + 2 * settings.overlap, longest), spec.min_frames)
    counted = COUNTED if spec.reads == "clip" and length > COUNTED[1] else [length]
    frame = padded_size((film.height, film.width), spec)
    sides = [valid_side(settings.tile, own, settings.tile_overlap, spec) for own in frame]
    overlap, multiple = settings.tile_overlap, spec.multiple
    starts = [starts_of(own, side, overlap, multiple) for own, side in zip(frame, sides, strict=True)]
    num_tiles, area = prod(map(len, starts)), prod(frame)
    try:
        peaks = [_peak(loaded, sides, frames, settings) for frames in counted]
    except REFUSALS:
        return None
    peak, kept = peaks[-1]
    if len(counted) > 1:
        peak += (peak - peaks[0][0]) * (length - counted[1]) // (counted[1] - counted[0])
    tensors = 4 * 3 * area * length + peak + (num_tiles - 1) * kept
    if num_tiles > 1:  # the blended frames, and the weights of the tiles
        tensors += 4 * spec.scale**2 * (3 * area * given + num_tiles * prod(sides))
    if settings.device.type == "cuda":
        return tensors
    bytes_each = 2 if film.depth > 8 else 1
    lq, sr = (3 * bytes_each * pixels for pixels in (film.height * film.width, size.height * size.width))
    pictures = lq * (length + FRAMES_AHEAD) + sr * (WAITING + ENCODING // 2)  # 4:2:0 is half of RGB
    return HEAP * tensors + pictures + LIBRARIES


def _peak(loaded: Loaded, size: Sequence[int], length: int, settings: Settings) -> tuple[int, int]:
    """Returns the most bytes of the tensors that live during calls for ``length`` frames, and those that are kept.

    Nothing is computed. ``size`` is a tile's.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        own = settings.device, settings.precision, None, settings.tile_overlap
        calls = Calls(loaded.network, *own, settings.keep_features)
        frames = {index: torch.empty(3, *size, device=settings.device) for index in range(length + 1)}
        with LiveTensors() as live:
            for first in (0, 1) if loaded.spec.reads == "window" else (0,):  # the second keeps the first's features
                reads = range(first, first + length)
                gives = range(first, first + 1) if loaded.spec.reads == "window" else reads
                for _ in calls.outputs((reads, gives), frames):
                    pass
        features = [tensor for known in calls.features.values() for own in known.values() for tensor in own]
    return live.peak, sum(tensor.untyped_storage().nbytes() for tensor in features)


def free_memory(device: torch.device) -> int:
    """Returns the bytes that can be allocated on a device; of a container, those that its limit leaves."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.is_file() else []
    available = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    free = available[0] if available else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return min(free, max(limit - used + int(cached.get("inactive_file", 0)), 0))
    except (OSError, ValueError):  # no control group, or none with a limit
        return free
