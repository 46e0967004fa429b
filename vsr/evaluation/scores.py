"""What methods reached on frames, and its means."""

from typing import Literal, NamedTuple

import numpy as np

from vsr.utils.errors import UserError


class FrameScore(NamedTuple):
    """What one method reached on one frame."""

    method: str
    clip: str
    frame: str
    values: dict[str, float]
    action: str = ""  # what the clip shows and which camera took it, where a data set says so
    camera: str = ""


def average(
    scores: list[FrameScore], by: Literal["clip", "action", "camera"] = "clip"
) -> dict[str, dict[str, dict[str, float]]]:
    """Returns means over frames by method, clip (action, camera) and metric; its ``mean`` is the mean of the clips."""
    frames: dict[str, dict[str, list[dict[str, float]]]] = {}
    for score in scores:
        frames.setdefault(score.method, {}).setdefault(getattr(score, by), []).append(score.values)
    result: dict[str, dict[str, dict[str, float]]] = {}
    for method, groups in frames.items():
        if "mean" in groups:
            raise UserError(f"a {by} is called 'mean', as the mean over all is in the results: rename it")
        result[method] = {group: _mean(values) for group, values in groups.items()}
        result[method]["mean"] = _mean(list(result[method].values()))
    return result


def _mean(values: list[dict[str, float]]) -> dict[str, float]:
    """Returns the mean of each value over those that have it; a frame where nothing moves has no ``psnr_moved``."""
    names = dict.fromkeys(name for value in values for name in value)
    return {name: float(np.mean([value[name] for value in values if name in value])) for name in names}
