"""How a test set is restored: which frames, in which calls of the network, once or in both directions of time."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vsr.archs.build import spec_of
from vsr.config.options import DatasetOptions, ValOptions
from vsr.contracts import Clip, Spec
from vsr.engine.precision import NAMES, restoration_type
from vsr.evaluation.restore import Step, clips_of, spec_for, steps_of
from vsr.metrics import traits_of
from vsr.utils.distributed import Place
from vsr.utils.log import logger


class BothDirections(nn.Module):
    """Restores each clip followed by itself in reverse order, and returns the mean of a frame's two outputs.

    It is BasicSR's ``flip_seq``: the protocol of published results on Vimeo-90K, 14 frames of a septuplet.

    Args:
        network: a network of clips.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, spec = network, spec_of(network)
        self.spec = spec._replace(min_frames=-(-spec.min_frames // 2))

    def forward(self, lq: Tensor) -> Tensor:
        """Returns (b, t, 3, scale·h, scale·w) of (b, t, 3, h, w)."""
        there, back = self.network(torch.cat([lq, lq.flip(1)], 1)).chunk(2, 1)
        return (there + back.flip(1)) / 2


def measured_clips(entry: DatasetOptions, val: ValOptions) -> list[Clip]:
    """Returns the clips of a test set; with ``center_frame_only``, the middle frame of each is its only target."""
    clips = clips_of(entry.data, entry.name)
    if not val.center_frame_only:
        return clips
    middles = [clip.targets[len(clip.targets) // 2] for clip in clips]
    return [clip._replace(targets=range(i, i + 1)) for clip, i in zip(clips, middles, strict=True)]


def planned(
    network: nn.Module, entry: DatasetOptions, clips: Sequence[Clip], val: ValOptions, place: Place
) -> tuple[nn.Module, Sequence[Step]]:
    """Returns the network as it is called, and this rank's steps; for metrics of pairs each rank has whole clips."""
    reads_pairs = any(traits_of(metric).reads == "pair" for metric in val.metrics.values())
    own = place.part(clips) if reads_pairs else clips
    steps = list(steps_of(spec_for(network, entry.data), own, val.segment, val.warm_up, val.look_ahead))
    return BothDirections(network).eval() if val.flip_seq else network, steps if reads_pairs else place.part(steps)


def deviations(spec: Spec, entry: DatasetOptions, val: ValOptions) -> list[str]:
    """Returns the settings that make results differ from others, for a protocol's name."""
    found = ["flipseq"] if val.flip_seq else []
    found += [f"tile{val.tile}o{val.tile_overlap}"] if val.tile is not None else []
    found += [val.precision] if val.precision != "float32" else []
    steps = steps_of(spec, measured_clips(entry, val), val.segment, val.warm_up, val.look_ahead)
    if spec.reads == "clip" and any(len(step.reads) < len(step.clip.frames) for step in steps):
        found.append(f"segment{val.segment}w{val.warm_up}a{val.look_ahead}")
    has_more = any(len(clip.targets) > 1 for clip in clips_of(entry.data, entry.name))
    return found + (["center"] if val.center_frame_only and has_more else [])


def settings(spec: Spec, val: ValOptions) -> dict[str, Any]:
    """Returns what ``metrics.json`` says of the calls of a network."""
    common = {"center_frame_only": val.center_frame_only, "precision": val.precision, "tile": val.tile}
    common |= {"tile_overlap": val.tile_overlap} if val.tile is not None else {}
    if spec.reads == "window":
        return {"frames_per_call": spec.num_frames, **common}
    read = "whole clips" if val.segment is None else "segments"
    segments = {"segment": val.segment, "warm_up": val.warm_up, "look_ahead": val.look_ahead}
    return {"frames_per_call": read, **segments, "flip_seq": val.flip_seq, **common}


def with_precision(val: ValOptions, device: torch.device) -> ValOptions:
    """Returns the options with ``precision: auto`` replaced by what it is on this device; logs it.

    Raises:
        UserError: the device cannot compute in this precision.
    """
    dtype, reason = restoration_type(val.precision, device)
    if val.precision != "auto":
        return val
    logger.info("val.precision: auto is %s", reason)
    return replace(val, precision=NAMES[dtype])


def calls_of(val: ValOptions) -> dict[str, Any]:
    """Returns the options of ``restore`` that ``val`` sets."""
    return {"precision": val.precision, "tile": val.tile, "tile_overlap": val.tile_overlap}
