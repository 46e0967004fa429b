"""Restores clips, for validations, tests, tables and pictures of memories.

``steps_of`` lists the calls of the network. ``restore`` reads each frame once, ahead of its call, copies it to the
network's device once, as uint8, calls the network and yields frames.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.archs.build import spec_of
from vsr.contracts import Clip, ClipSet, Padding, Spec, data_spec
from vsr.data.sets.test_clips import generate_frame_indices
from vsr.data.stream.loader import to_planes, to_unit_range
from vsr.utils.errors import UserError

T = TypeVar("T")


class Step(NamedTuple):
    """One call of a network: the frames of a clip that it reads, in order, and those of its output that are kept."""

    clip: Clip
    reads: Sequence[int]
    gives: range


class Frame(NamedTuple):
    """A restored frame of a clip; ``lq`` and ``sr`` are (h, w, 3) uint8 RGB."""

    clip: Clip
    index: int
    lq: np.ndarray
    sr: np.ndarray
    inputs: Tensor  # the network's: (t, 3, h, w) in [0, 1], padded, on its device


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
    spec: Spec, clips: Iterable[Clip], chunk: int | None = None, warm_up: int = 0, look_ahead: int = 0
) -> list[Step]:
    """Returns the steps that restore clips: a window for each frame, or chunks of each clip.

    Args:
        spec: of the network.
        clips: in order.
        chunk: frames that a call of a network of clips restores; None restores a whole clip in one call.
        warm_up: frames before a chunk that the call reads as well.
        look_ahead: frames after a chunk that the call reads as well.
    """
    steps = []
    for clip in clips:
        length, targets = len(clip.frames), clip.targets
        if spec.reads == "window":
            t = spec.num_frames or 1
            windows = ((index, generate_frame_indices(index, length, t, padding_of(clip, t))) for index in targets)
            steps += [Step(clip, window, range(index, index + 1)) for index, window in windows]
        elif chunk is None:
            steps.append(Step(clip, range(length), targets))
        else:
            for part in (targets[start : start + chunk] for start in range(0, len(targets), chunk)):
                reads = range(max(part.start - warm_up, 0), min(part.stop + look_ahead, length))
                steps.append(Step(clip, reads, part))
    return steps


def restore(network: nn.Module, steps: Sequence[Step], device: torch.device, num_threads: int = 0) -> Generator[Frame]:
    """Yields the frames of the steps, in order; ``num_threads`` threads read ahead, 0 reads in this thread.

    Raises:
        UserError: a frame is unreadable or differs in size from its clip, or the network's output differs in shape
            from its spec, or is not finite.
    """
    spec, all_unread = spec_of(network), _unread(steps)
    held: dict[int, tuple[np.ndarray, Tensor]] = {}  # of the step before: pixels, and the network's input
    with closing(read_ahead(steps, num_threads, all_unread, _read_lq)) as frames:
        for step, unread in zip(steps, all_unread, strict=True):
            for index in unread:
                pixels = next(frames)
                held[index] = pixels, prepared(pixels, spec, device)
            held = {index: held[index] for index in step.reads}
            _check_one_size(step.clip, {index: pixels for index, (pixels, _) in held.items()})
            inputs = torch.stack([held[index][1] for index in step.reads])
            output = run(network, inputs)
            for index in step.gives:
                lq, sr = held[index][0], output[step.reads.index(index) if spec.reads == "clip" else 0]
                sr = sr[:, : lq.shape[0] * spec.scale, : lq.shape[1] * spec.scale]
                if not sr.isfinite().all():
                    name = f"{step.clip.name}/{step.clip.frames[index]}"
                    raise UserError(f"{name}: network gives numbers that are not finite; its weights are damaged")
                yield Frame(step.clip, index, lq, to_pixels(sr), inputs)


def run(network: nn.Module, inputs: Tensor) -> Tensor:
    """Returns the output for (t, 3, h, w): (1, 3, scale·h, scale·w) for a window, (t, 3, …) for a clip."""
    spec = spec_of(network)
    with torch.inference_mode():
        output = network(inputs.unsqueeze(0))
    t, c, h, w = inputs.shape
    expected = (1, *((t,) if spec.reads == "clip" else ()), c, h * spec.scale, w * spec.scale)
    got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if got != expected:
        text = f"{type(network).__name__} returned {got} for an input of {(1, t, c, h, w)}, expected {expected}"
        raise UserError(f"{text} as its spec says (reads: {spec.reads}, scale: {spec.scale})")
    return output[0] if spec.reads == "clip" else output


def prepared(pixels: np.ndarray, spec: Spec, device: torch.device) -> Tensor:
    """Returns a frame (h, w, 3) uint8 as (3, h, w) in [0, 1] on the device; its border is repeated to a valid size."""
    frame = to_unit_range(to_planes(pixels).to(device))
    padding = [-(-max(size, spec.min_size) // spec.multiple) * spec.multiple - size for size in frame.shape[1:]]
    return F.pad(frame, (0, padding[1], 0, padding[0]), mode="replicate") if any(padding) else frame


def to_pixels(frame: Tensor) -> np.ndarray:
    """Returns a frame (3, h, w) in [0, 1] as (h, w, 3) uint8, clamped and rounded."""
    pixels = (frame.float().clamp(0, 1) * 255).round().byte()
    return pixels.permute(1, 2, 0).contiguous().cpu().numpy()


def read_ahead(
    steps: Sequence[Step], num_threads: int, indices: Iterable[Iterable[int]], read: Callable[[Clip, int], T]
) -> Generator[T]:
    """Yields ``read(clip, index)`` of each step's indices, in order; UserError if a frame is unreadable.

    ``num_threads`` threads read ahead, at most one if a clip has to be read in order; 0 reads in this thread.
    """
    if any(step.clip.in_order for step in steps):
        num_threads = min(num_threads, 1)

    def task(clip: Clip, index: int) -> T:
        try:
            return read(clip, index)
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from error

    tasks = (partial(task, step.clip, i) for step, some in zip(steps, indices, strict=True) for i in some)
    return in_order(tasks, num_threads)


def in_order(tasks: Iterable[Callable[[], T]], num_threads: int) -> Generator[T]:
    """Yields the tasks' results in order; threads compute them ahead, one task per thread, 0 threads in turn."""
    ahead: deque[Future[T]] = deque()
    with ThreadPoolExecutor(max(num_threads, 1)) as pool:
        try:
            for task in tasks:
                if not num_threads:
                    yield task()
                    continue
                ahead.append(pool.submit(task))
                if len(ahead) > num_threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _unread(steps: Sequence[Step]) -> list[list[int]]:
    """Returns the frames that each step reads and the step before did not, in ascending order."""
    known = [(), *(a.reads if a.clip is b.clip else () for a, b in pairwise(steps))]
    return [sorted(set(step.reads).difference(some)) for step, some in zip(steps, known, strict=False)]


def _read_lq(clip: Clip, index: int) -> np.ndarray:
    pixels = clip.lq(index)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        got = f"lq({index}) returned {pixels.dtype} {pixels.shape}"
        raise ValueError(f"{clip.name}/{clip.frames[index]}: {got}, expected uint8 (h, w, 3)")
    return pixels


def _check_one_size(clip: Clip, frames: dict[int, np.ndarray]) -> None:
    first = min(frames)
    for index, pixels in sorted(frames.items()):
        if pixels.shape != frames[first].shape:
            one = f"'{clip.name}/{clip.frames[index]}' is {pixels.shape[0]} x {pixels.shape[1]}"
            other = f"'{clip.name}/{clip.frames[first]}' is {frames[first].shape[0]} x {frames[first].shape[1]}"
            raise UserError(f"LQ frame {one}, but {other}; all frames of a clip must have one size")
