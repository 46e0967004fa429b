"""Measures a network while it is trained."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from vsr.config.options import DatasetOptions, Options
from vsr.engine.run import Validation
from vsr.evaluation import next_frame
from vsr.evaluation.draw.comparison import triptych
from vsr.evaluation.draw.next_frame import example, write_pictures
from vsr.evaluation.restore import measure_all, network_restorer, restore_all
from vsr.evaluation.scores import FrameScore, average
from vsr.utils.distributed import Place, any_rank, from_all_ranks
from vsr.utils.log import logger
from vsr.utils.signals import StopSignals

Validate = Callable[[nn.Module, StopSignals], Validation | None]


def restoration_validation(options: Options, validation_sets: list[DatasetOptions], place: Place) -> Validate:
    """Returns the function that measures a super-resolution network; the processes share the frames."""
    opened = {}
    for entry in validation_sets:
        dataset = entry.open()
        if getattr(dataset, "gt", dataset) is None:
            logger.warning("%s has no ground truth: nothing is validated on it", entry.name)
        else:
            # workers end with a validation, and what they keep with them
            keeps_frames = getattr(dataset, "cache_data", False)
            opened[entry.name] = dataset, 0 if keeps_frames else entry.loader.num_worker_per_gpu

    errors = [name for name, metric in options.val.metrics.items() if getattr(metric.func, "lower_is_better", False)]
    lower_is_better = frozenset(f"{name}/{metric}" for name in opened for metric in errors)

    def validate(network: nn.Module, stop: StopSignals) -> Validation | None:
        values: dict[str, float] = {}
        images: dict[str, np.ndarray] = {}
        restore = {"network": network_restorer(network, options.scale, place.device)}
        for name, (dataset, num_workers) in opened.items():
            scores: list[FrameScore] = []
            frames = restore_all(restore, dataset, num_workers, _title(name, options, place), place)
            for restored, own in measure_all(frames, options.val.metrics):
                scores += own
                images = images or triptych(restored)
                if stop:
                    break
            gathered = _gather(scores, stop, place)
            if gathered is None:
                return None
            if gathered:
                means = average(gathered)["network"]["mean"]
                values |= {f"{name}/{metric}": value for metric, value in means.items()}
        return Validation(values, images, lower_is_better)

    return validate


def prediction_validation(options: Options, validation_sets: list[DatasetOptions], place: Place) -> Validate:
    """Returns the function that measures a FramePredictor; the processes share the samples.

    The pictures it keeps are of the first set.
    """
    opened = {entry.name: (entry.open(), entry.loader.num_worker_per_gpu) for entry in validation_sets}

    def validate(network: nn.Module, stop: StopSignals) -> Validation | None:
        values: dict[str, float] = {}
        kept: dict[int, next_frame.Predicted] = {}
        for name, (dataset, num_workers) in opened.items():
            scores: list[FrameScore] = []
            num_kept = 0 if values else options.train.num_pictures
            title = _title(name, options, place)
            for number, predicted in next_frame.predict_all(network, dataset, num_workers, title, place, num_kept):
                scores += next_frame.measure(predicted)
                if number < num_kept:
                    kept[number] = predicted
                if stop:
                    break
            gathered = _gather(scores, stop, place)
            if gathered is None:
                return None
            means = {method: clips["mean"] for method, clips in average(gathered).items()}
            logger.info("%s: %s", name, next_frame.standing(means))
            values |= {f"{name}/{metric}": value for metric, value in means["network"].items()}

        def save_pictures(folder: Path) -> None:
            for number, predicted in kept.items():
                write_pictures(folder, number, predicted)

        lower_is_better = frozenset(name for name in values if name.rpartition("/")[2] in next_frame.ERRORS)
        images = example(next(iter(kept.values()))) if kept else {}
        return Validation(values, images, lower_is_better, save_pictures)

    return validate


def _title(name: str, options: Options, place: Place) -> str | None:
    return f"validating {name}" if options.val.pbar and place.is_main else None


def _gather(scores: list[FrameScore], stop: StopSignals, place: Place) -> list[FrameScore] | None:
    """Returns the scores of all ranks, None if one of them was asked to stop."""
    stopped = any_rank(bool(stop), place)
    return None if stopped else from_all_ranks(scores, place)
