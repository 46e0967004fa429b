"""Restores clips, for validations, tests, tables, pictures of memories and films.

``steps_of`` lists the calls of the network. ``restore`` reads each frame once, ahead of its call, copies it to the
network's device once, as it was read, calls the network and yields frames as they are made.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import tee
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.archs.build import spec_of
from vsr.contracts import Clip, ClipSet, Padding, Precision, Spec, data_spec
from vsr.data.sets.test_clips import generate_frame_indices
from vsr.data.stream.loader import to_planes, to_unit_range
from vsr.evaluation.restoring.calls import OVERLAP, TILE_OVERLAP, Calls
from vsr.evaluation.restoring.reading import read_ahead
from vsr.utils.errors import UserError
from vsr.utils.log import logger

CONTRAST = 1 / 16  # of the range: the least of an input whose output cannot be one colour


class Step(NamedTuple):
    """One call of a network: the frames of a clip that it reads, in order, and those of its output that are kept."""

    clip: Clip
    reads: Sequence[int]
    gives: range


class Frame(NamedTuple):
    """A restored frame of a clip; ``lq`` and ``sr`` are (h, w, 3) RGB, both uint8 or both uint16."""

    clip: Clip
    index: int
    lq: np.ndarray
    sr: np.ndarray
    inputs: tuple[Tensor, ...]  # the frames that the step read, each (3, h, w) in [0, 1], padded, on the device


def clips_of(dataset: ClipSet, name: str) -> list[Clip]:
    """Returns the clips of a test set; raises UserError if an item is no Clip."""
    clips = [dataset[index] for index in range(len(dataset))]
    for clip in clips:
        if not isinstance(clip, Clip):
            text = f"{type(dataset).__name__} returned {type(clip).__name__}, expected vsr.contracts.Clip"
            raise UserError(f"test set {name}: {text}; see docs/testing.md")
    return clips


def middle_target(clips: Sequence[Clip]) -> tuple[Clip, int]:
    """Returns the clip and the index of the frame in the middle of a test set, the one that pictures show."""
    targets = [(clip, index) for clip in clips for index in clip.targets]
    return targets[len(targets) // 2]


def spec_for(network: nn.Module, dataset: ClipSet) -> Spec:
    """Returns the Spec of a network; if it reads windows of any length, ``num_frames`` is the test set's."""
    spec = spec_of(network)
    return spec._replace(num_frames=spec.num_frames or data_spec(dataset).num_frames)


def padding_of(clip: Clip, num_frames: int | None) -> Padding:
    """Returns the padding of a clip's windows: replicate if the clip is shorter than the window."""
    return clip.padding if len(clip.frames) >= (num_frames or 1) else "replicate"


def steps_of(
    spec: Spec, clips: Iterable[Clip], chunk: int | None = None, warm_up: int = OVERLAP, look_ahead: int = OVERLAP
) -> Generator[Step]:
    """Yields the steps that restore clips: a window for each frame, or chunks of each clip; ``clips`` may be lazy.

    Args:
        spec: of the network.
        clips: in order.
        chunk: frames that a call of a network of clips restores; None restores a whole clip in one call.
        warm_up: frames before a chunk that the call reads as well.
        look_ahead: frames after a chunk that the call reads as well. A call reads ``spec.min_frames`` if the clip has
            them.
    """
    for clip in clips:
        length, targets = len(clip.frames), clip.targets
        if spec.reads == "window":
            t = spec.num_frames or 1
            padding = padding_of(clip, t)
            for index in targets:
                yield Step(clip, generate_frame_indices(index, length, t, padding), range(index, index + 1))
        elif chunk is None:
            yield Step(clip, range(length), targets)
        else:
            for part in (targets[start : start + chunk] for start in range(0, len(targets), chunk)):
                stop = min(part.stop + look_ahead, length)
                start = max(min(part.start - warm_up, stop - spec.min_frames), 0)
                yield Step(clip, range(start, min(max(stop, start + spec.min_frames), length)), part)


def restore(
    network: nn.Module,
    steps: Iterable[Step],
    device: torch.device,
    num_threads: int = 0,
    *,
    precision: Precision = "float32",
    tile: int | None = None,
    tile_overlap: int = TILE_OVERLAP,
    keep_features: bool = True,
) -> Generator[Frame]:
    """Yields the frames of the steps, in order.

    Memory does not depend on the number of steps, which may be lazy. Where memory runs out, restoration goes on with
    shorter segments or smaller tiles, and the log says so.

    Args:
        network: on the device, in evaluation mode.
        steps: see steps_of; steps of one clip follow each other.
        device: the network's.
        num_threads: threads that read frames ahead; 0 reads in this thread.
        precision: of the network's computation; see vsr.engine.precision.restoration_type.
        tile: side in pixels of the parts in which a frame is restored; None is the whole frame.
        tile_overlap: pixels that neighbouring tiles share; their outputs are blended there.
        keep_features: whether the features of a frame are kept for the windows after it.

    Raises:
        UserError: a frame is unreadable or differs in size from its clip; the network's output differs in shape from
            its spec, or is not finite; or memory does not suffice for the smallest part.
    """
    spec, calls = spec_of(network), Calls(network, device, precision, tile, tile_overlap, keep_features)
    checks = OutputChecks(precision)
    held: dict[int, tuple[np.ndarray, Tensor]] = {}  # of the step before: pixels, and the network's input
    clip: Clip | None = None
    to_read, to_call = tee(_with_unread(steps))  # reading runs ahead by a few frames
    wanted = ((step.clip, index) for step, unread in to_read for index in unread)
    with closing(read_ahead(wanted, num_threads, _read_lq)) as frames:
        for step, unread in to_call:
            if step.clip is not clip:
                calls.forget()
            clip = step.clip
            for index in unread:
                pixels = next(frames)
                held[index] = pixels, prepared(pixels, spec, device)
            held = {index: held[index] for index in step.reads}
            _check_alike(step.clip, {index: pixels for index, (pixels, _) in held.items()})
            inputs = {index: frame for index, (_, frame) in held.items()}
            for index, sr in calls.outputs((step.reads, step.gives), inputs):
                lq = held[index][0]
                sr = sr[:, : lq.shape[0] * spec.scale, : lq.shape[1] * spec.scale]
                frame = f"{clip.name}/{clip.frames[index]}"
                checks.check_finite(frame, sr)
                pixels = to_pixels(sr, lq.dtype)
                checks.check_contrast(frame, lq, pixels)
                yield Frame(clip, index, lq, pixels, tuple(inputs[i] for i in step.reads))


class OutputChecks:
    """Notices output that no working network gives, and names its frame."""

    def __init__(self, precision: Precision) -> None:
        self.remedy = "its weights are damaged"
        if precision != "float32":
            self.remedy += ", or the numbers are too large for 16 bits: try precision float32"
        self.num_constant = 0

    def check_finite(self, frame: str, sr: Tensor) -> None:
        """Raises UserError if an output has infinite numbers or NaN."""
        if not sr.isfinite().all():
            raise UserError(f"{frame}: network gives numbers that are not finite; {self.remedy}")

    def check_contrast(self, frame: str, lq: np.ndarray, sr: np.ndarray) -> None:
        """Warns of a frame of one colour whose input has contrast: the 1st, 2nd, 4th, … time."""
        first = sr[0, 0]
        if not (sr[-1, -1] == first).all() or not (sr == first).all():  # the corner answers at once
            return
        if int(lq.max()) - int(lq.min()) < np.iinfo(lq.dtype).max * CONTRAST:
            return
        self.num_constant += 1
        if self.num_constant.bit_count() == 1:
            colour = "black" if not first.any() else f"the one colour {tuple(first.tolist())}"
            logger.warning("%s: the restored frame is %s, its input is not (%d such)", frame, colour, self.num_constant)


def prepared(pixels: np.ndarray, spec: Spec, device: torch.device) -> Tensor:
    """Returns a frame (h, w, 3) as (3, h, w) in [0, 1] on the device; its border is repeated to a valid size."""
    frame = to_unit_range(to_planes(pixels).to(device))
    padding = [new - old for new, old in zip(padded_size(frame.shape[1:], spec), frame.shape[1:], strict=True)]
    return F.pad(frame, (0, padding[1], 0, padding[0]), mode="replicate") if any(padding) else frame


def padded_size(size: Sequence[int], spec: Spec) -> list[int]:
    """Returns the height and width of a frame that the network reads."""
    return [-(-max(length, spec.min_size) // spec.multiple) * spec.multiple for length in size]


def to_pixels(frame: Tensor, dtype: np.typing.DTypeLike = np.uint8) -> np.ndarray:
    """Returns a frame (3, h, w) in [0, 1] as (h, w, 3) uint8 or uint16, clamped and rounded."""
    pixels = (frame.float().clamp(0, 1) * np.iinfo(dtype).max).round()
    whole = pixels.byte() if dtype == np.uint8 else pixels.int()  # PyTorch's uint16 lacks most operations
    return whole.permute(1, 2, 0).contiguous().cpu().numpy().astype(dtype, copy=False)


def _with_unread(steps: Iterable[Step]) -> Iterator[tuple[Step, list[int]]]:
    """Yields each step with the frames that it reads and the step before did not, in ascending order."""
    before: Step | None = None
    for step in steps:
        known = before.reads if before is not None and before.clip is step.clip else ()
        yield step, sorted(set(step.reads).difference(known))
        before = step


def _read_lq(clip: Clip, index: int) -> np.ndarray:
    pixels = clip.lq(index)
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or pixels.shape[2] != 3:
        got = f"lq({index}) returned {pixels.dtype} {pixels.shape}"
        raise ValueError(f"{clip.name}/{clip.frames[index]}: {got}, expected uint8 or uint16 (h, w, 3)")
    return pixels


def _check_alike(clip: Clip, frames: dict[int, np.ndarray]) -> None:
    first = min(frames)
    for index, pixels in sorted(frames.items()):
        if pixels.shape != frames[first].shape:
            one = f"'{clip.name}/{clip.frames[index]}' is {pixels.shape[0]} x {pixels.shape[1]}"
            other = f"'{clip.name}/{clip.frames[first]}' is {frames[first].shape[0]} x {frames[first].shape[1]}"
            raise UserError(f"LQ frame {one}, but {other}; all frames of a clip must have one size")
