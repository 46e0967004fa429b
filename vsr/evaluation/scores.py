"""Scores of frames and their means; threads measure restored frames while the next ones are restored."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from vsr.contracts import Clip
from vsr.data.degrade.imresize import imresize
from vsr.data.stream.loader import to_planes, to_unit_range
from vsr.engine.precision import full_float32
from vsr.evaluation.draw.images import to_bgr
from vsr.evaluation.restore import Frame, Step, to_pixels
from vsr.evaluation.restoring.reading import in_order, read_ahead
from vsr.metrics import traits_of
from vsr.utils.distributed import Place, any_rank, from_all_ranks
from vsr.utils.errors import UserError
from vsr.utils.signals import StopSignals

T = TypeVar("T")
Metrics = dict[str, Callable[..., float]]
Values = dict[str, dict[str, float]]  # by clip, action, camera or method, and by metric
_WithTruth = tuple[Frame, np.ndarray | None]
MOST_THREADS = 8  # for measuring: each holds several copies of a frame in float64


class FrameScore(NamedTuple):
    """The values of one method on one frame."""

    method: str
    clip: str
    frame: str
    values: dict[str, float]
    action: str = ""  # of the clip, where the data set names them
    camera: str = ""


class Restored(NamedTuple):
    """A frame as each method restores it, all (h, w, 3) uint8 BGR; ``gt`` is None where there is none."""

    clip: str
    frame: str
    lq: np.ndarray
    gt: np.ndarray | None
    by_method: dict[str, np.ndarray]


def measure_all(
    frames: Generator[Frame], steps: Sequence[Step], metrics: Metrics, num_threads: int, scale: int | None = None
) -> Generator[tuple[Restored, list[FrameScore]]]:
    """Yields each frame of the steps with its scores, in order; closes ``frames`` at the end, also after an error.

    ``num_threads`` threads read ground truth ahead, further threads call the metrics. With the network's ``scale`` the
    baselines are measured as well. Metrics of pairs have a value where the step before gave the frame before.

    Raises:
        UserError: a ground truth frame is unreadable, differs in size, or is too small to be measured.
    """
    truths = read_ahead(((step.clip, index) for step in steps for index in step.gives), num_threads, _read_gt)
    reads_pairs = any(traits_of(metric).reads == "pair" for metric in metrics.values())
    found = _with_before(zip(frames, truths, strict=True), reads_pairs)
    jobs = (partial(_measured, frame, before, metrics, scale) for frame, before in found)
    with closing(frames), closing(truths), closing(in_order(jobs, min(torch.get_num_threads(), MOST_THREADS))) as done:
        yield from done


def baselines(lq: np.ndarray, scale: int) -> dict[str, np.ndarray]:
    """Returns the baselines of a frame (h, w, 3) uint8: MATLAB's bicubic, and bilinear; at scale 1 the input itself."""
    if scale == 1:
        return {"input": lq}
    frame = to_unit_range(to_planes(lq))
    bilinear = F.interpolate(frame.unsqueeze(0), scale_factor=scale, mode="bilinear", align_corners=False)[0]
    return {"bicubic": to_pixels(imresize(frame, scale)), "bilinear": to_pixels(bilinear)}


def collect(
    results: Generator[tuple[T, list[FrameScore]]],
    count: int,
    title: str | None,
    place: Place,
    keep: Callable[[T, list[FrameScore]], None],
    stop: StopSignals | None = None,
) -> list[FrameScore] | None:
    """Returns the scores of all ranks, in order; None if a stop was requested meanwhile.

    Computes in full float32, so that validations and tests of the same weights agree. Closes ``results``, ``count``
    frames of this rank, at the end, also after an error. ``title`` is the progress bar's; None shows no bar. ``keep``
    is called with each frame and its scores.
    """
    scores: list[FrameScore] = []
    disable = None if title is not None and place.is_main else True
    with full_float32(), closing(results):
        for frame, own in tqdm(results, title, count, leave=False, unit="frame", disable=disable):
            scores += own
            keep(frame, own)
            if stop:
                break
    return None if any_rank(bool(stop), place) else from_all_ranks(scores, place)


def average(scores: list[FrameScore], by: Literal["clip", "action", "camera"] = "clip") -> dict[str, Values]:
    """Returns means over frames by method, clip (action, camera) and metric; its ``mean`` is the mean of the clips."""
    frames: dict[str, dict[str, list[dict[str, float]]]] = {}
    for score in scores:
        frames.setdefault(score.method, {}).setdefault(getattr(score, by), []).append(score.values)
    result: dict[str, Values] = {}
    for method, groups in frames.items():
        if "mean" in groups:
            raise UserError(f"a {by} is called 'mean', as the mean over all is in the results: rename it")
        result[method] = {group: _mean(values) for group, values in groups.items()}
        result[method]["mean"] = _mean(list(result[method].values()))
    return result


def overall(means: dict[str, Values]) -> Values:
    """Returns the means over all clips, by method and metric."""
    return {method: clips["mean"] for method, clips in means.items()}


def _mean(values: list[dict[str, float]]) -> dict[str, float]:
    """Returns the mean of each value over those that have it; a frame where nothing moves has no ``psnr_moved``."""
    names = dict.fromkeys(name for value in values for name in value)
    return {name: float(np.mean([value[name] for value in values if name in value])) for name in names}


def _read_gt(clip: Clip, index: int) -> np.ndarray | None:
    return None if clip.gt is None else to_bgr(clip.gt(index))


def _with_before(
    frames: Iterator[tuple[Frame, np.ndarray | None]], reads_pairs: bool
) -> Iterator[tuple[_WithTruth, _WithTruth | None]]:
    """Yields each frame and its truth; with ``reads_pairs`` also those of the frame before in the clip, if it came."""
    before: _WithTruth | None = None
    for frame, gt in frames:
        follows = before is not None and (before[0].clip, before[0].index + 1) == (frame.clip, frame.index)
        yield (frame, gt), before if follows else None
        before = (frame, gt) if reads_pairs else None


def _measured(
    current: _WithTruth, before: _WithTruth | None, metrics: Metrics, scale: int | None
) -> tuple[Restored, list[FrameScore]]:
    frame, gt = current
    clip, name = frame.clip.name, frame.clip.frames[frame.index]
    restored = Restored(clip, name, to_bgr(frame.lq), gt, _by_method(frame, scale if gt is not None else None))
    if gt is None:
        return restored, []
    earlier = _by_method(before[0], scale) if before is not None else {}
    scores = []
    for method, image in restored.by_method.items():
        if image.shape != gt.shape:
            got = f"{method} restored {image.shape[0]}×{image.shape[1]} pixels"
            expected = f"the ground truth has {gt.shape[0]}×{gt.shape[1]}"
            raise UserError(f"{clip}/{name}: {got}, {expected}: check `scale` and the folders")
        values = {}
        try:
            for metric, call in metrics.items():
                if traits_of(call).reads == "frame":
                    values[metric] = float(call(image, gt))
                elif before is not None:
                    values[metric] = float(call(image, gt, earlier[method], before[1]))
        except (ValueError, TypeError) as error:
            raise UserError(f"{clip}/{name} cannot be measured: {error}") from error
        scores.append(FrameScore(method, clip, name, values))
    return restored, scores


def _by_method(frame: Frame, scale: int | None) -> dict[str, np.ndarray]:
    """Returns a frame as each method restores it, (h, w, 3) uint8 BGR; without a scale only as the network does."""
    network = {"network": to_bgr(frame.sr)}
    return network if scale is None else baselines(to_bgr(frame.lq), scale) | network
