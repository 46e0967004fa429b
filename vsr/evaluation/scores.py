"""Scores of frames and their means; restored frames are measured while the next ones are restored."""

from collections.abc import Callable, Generator, Sequence
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
from vsr.evaluation.restore import Frame, Step, in_order, read_ahead, to_pixels
from vsr.utils.distributed import Place, any_rank, from_all_ranks
from vsr.utils.errors import UserError
from vsr.utils.signals import StopSignals

T = TypeVar("T")
Metrics = dict[str, Callable[..., float]]
MOST_THREADS = 8  # that measure: each holds several copies of a frame in float64


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
    """Yields each frame with its scores, in order.

    Threads measure while the next frames are restored: a GPU would wait for PSNR and SSIM.

    Args:
        frames: restored by these steps; closed in the end, also after an error.
        steps: name the frames.
        metrics: by name; several threads call them at a time.
        num_threads: threads that read ground truth ahead; 0 reads it in this one.
        scale: of the network, to measure the baselines beside it; None measures the network alone.

    Raises:
        UserError: see measure, or a ground truth frame cannot be read.
    """
    truths = read_ahead(steps, num_threads, (step.gives for step in steps), _read_gt)
    jobs = (partial(_measured, frame, gt, metrics, scale) for frame, gt in zip(frames, truths, strict=True))
    with closing(frames), closing(truths), closing(in_order(jobs, min(torch.get_num_threads(), MOST_THREADS))) as done:
        yield from done


def measure(restored: Restored, metrics: Metrics) -> list[FrameScore]:
    """Returns a frame's scores, one entry per method; none without ground truth.

    Raises:
        UserError: a method's frame and the ground truth differ in size, or are too small to be measured.
    """
    if restored.gt is None:
        return []
    scores = []
    for method, image in restored.by_method.items():
        if image.shape != restored.gt.shape:
            raise UserError(
                f"{restored.clip}/{restored.frame}: {method} restored {image.shape[0]}×{image.shape[1]} pixels, "
                f"the ground truth has {restored.gt.shape[0]}×{restored.gt.shape[1]}: check `scale` and the folders"
            )
        try:
            values = {name: metric(image, restored.gt) for name, metric in metrics.items()}
        except ValueError as error:
            raise UserError(f"{restored.clip}/{restored.frame} cannot be measured: {error}") from error
        scores.append(FrameScore(method, restored.clip, restored.frame, values))
    return scores


def baselines(lq: np.ndarray, scale: int) -> dict[str, np.ndarray]:
    """Returns the baselines of a frame: MATLAB's bicubic, and bilinear, EDVR's own base; at scale 1 the input itself.

    Args:
        lq: (h, w, 3) uint8, as the results are.
        scale: output size / input size.
    """
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
    keep: Callable[[T], None],
    stop: StopSignals | None = None,
) -> list[FrameScore] | None:
    """Returns the scores of all ranks, in order; None if a stop was requested meanwhile.

    Computes in full float32, whatever the training does, so that validations and tests of the same weights agree.

    Args:
        results: frames with their scores, this rank's share; closed in the end, also after an error.
        count: of this rank's results.
        title: of the progress bar; None shows none.
        place: this process's rank.
        keep: is called with each frame.
        stop: ends the loop.
    """
    scores: list[FrameScore] = []
    disable = None if title is not None and place.is_main else True
    with full_float32(), closing(results):
        for frame, own in tqdm(results, title, count, leave=False, unit="frame", disable=disable):
            scores += own
            keep(frame)
            if stop:
                break
    return None if any_rank(bool(stop), place) else from_all_ranks(scores, place)


def average(
    scores: list[FrameScore], by: Literal["clip", "action", "camera"] = "clip"
) -> dict[str, dict[str, dict[str, float]]]:
    """Returns means over frames by method, clip (action, camera) and metric; its ``mean`` is the mean of the clips."""
    frames: dict[str, dict[str, list[dict[str, float]]]] = {}
    for score in scores:
        group = {"clip": score.clip, "action": score.action, "camera": score.camera}[by]
        frames.setdefault(score.method, {}).setdefault(group, []).append(score.values)
    result: dict[str, dict[str, dict[str, float]]] = {}
    for method, groups in frames.items():
        if "mean" in groups:
            raise UserError(f"a {by} is called 'mean', as the mean over all is in the results: rename it")
        result[method] = {group: _mean(values) for group, values in groups.items()}
        result[method]["mean"] = _mean(list(result[method].values()))
    return result


def overall(means: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Returns the means over all clips, by method and metric."""
    return {method: clips["mean"] for method, clips in means.items()}


def _mean(values: list[dict[str, float]]) -> dict[str, float]:
    """Returns the mean of each value over those that have it; a frame where nothing moves has no ``psnr_moved``."""
    names = dict.fromkeys(name for value in values for name in value)
    return {name: float(np.mean([value[name] for value in values if name in value])) for name in names}


def _read_gt(clip: Clip, index: int) -> np.ndarray | None:
    return None if clip.gt is None else to_bgr(clip.gt(index))


def _measured(
    frame: Frame, gt: np.ndarray | None, metrics: Metrics, scale: int | None
) -> tuple[Restored, list[FrameScore]]:
    lq, by_method = to_bgr(frame.lq), {"network": to_bgr(frame.sr)}
    if scale is not None and gt is not None:
        by_method = baselines(lq, scale) | by_method
    restored = Restored(frame.clip.name, frame.clip.frames[frame.index], lq, gt, by_method)
    return restored, measure(restored, metrics)
