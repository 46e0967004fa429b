"""Measures a network while it is trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from vsr.config.options import DatasetOptions, Options
from vsr.engine.run import Validate, Validation
from vsr.engine.trainers.next_frame import NextFrameOptions
from vsr.evaluation import next_frame
from vsr.evaluation.draw.comparison import triptych
from vsr.evaluation.draw.next_frame import example, write_pictures
from vsr.evaluation.plan import calls_of, measured_clips, planned, with_precision
from vsr.evaluation.restore import restore
from vsr.evaluation.scores import FrameScore, Restored, average, collect, measure_all, overall
from vsr.metrics import prepare, traits_of
from vsr.utils.distributed import Place
from vsr.utils.log import logger
from vsr.utils.signals import StopSignals


def restoration_validation(options: Options, validation_sets: list[DatasetOptions], place: Place) -> Validate:
    """Returns the function that measures a super-resolution network; the ranks share the frames."""
    opened = []
    for entry in validation_sets:
        clips = measured_clips(entry, options.val)
        if all(clip.gt is None for clip in clips):
            logger.warning("%s has no ground truth: nothing is validated on it", entry.name)
        else:
            opened.append((entry, clips))
    options = replace(options, val=with_precision(options.val, place.device))
    metrics, how = options.val.metrics, calls_of(options.val)
    prepare(metrics)
    errors = [name for name, metric in metrics.items() if traits_of(metric).lower_is_better]
    lower_is_better = frozenset(f"{entry.name}/{metric}" for entry, _ in opened for metric in errors)

    def validate(network: nn.Module, stop: StopSignals) -> Validation | None:
        values: dict[str, float] = {}
        images: dict[str, np.ndarray] = {}

        def keep(restored: Restored, _: list[FrameScore]) -> None:
            if not images:
                images.update(triptych(restored))

        for entry, clips in opened:
            num_threads = entry.loader.num_worker_per_gpu
            called, steps = planned(network, entry, clips, options.val, place)
            frames = restore(called, steps, place.device, num_threads, **how)
            measured = measure_all(frames, steps, metrics, num_threads)
            count = sum(len(step.gives) for step in steps)
            scores = collect(measured, count, _title(entry, options), place, keep, stop)
            if scores is None:
                return None
            means = overall(average(scores))["network"]
            values |= {f"{entry.name}/{metric}": value for metric, value in means.items()}
        return Validation(values, images, lower_is_better)

    return validate


def prediction_validation(options: Options, validation_sets: list[DatasetOptions], place: Place) -> Validate:
    """Returns the function that measures a FramePredictor; the ranks share the samples, the first set has pictures."""
    train = options.train
    num_pictures = train.num_pictures if isinstance(train, NextFrameOptions) else NextFrameOptions.num_pictures

    def validate(network: nn.Module, stop: StopSignals) -> Validation | None:
        values: dict[str, float] = {}
        kept: list[next_frame.Predicted] = []
        for entry in validation_sets:
            num_kept = 0 if values else num_pictures

            def keep(predicted: next_frame.Predicted, _: list[FrameScore], num_kept: int = num_kept) -> None:
                if predicted.number < num_kept:
                    kept.append(predicted)

            num_workers, count = entry.loader.num_worker_per_gpu, len(place.share(len(entry.data)))
            predictions = next_frame.predict_all(network, entry.data, num_workers, place, num_kept)
            scores = collect(predictions, count, _title(entry, options), place, keep, stop)
            if scores is None:
                return None
            means = overall(average(scores))
            logger.info("%s: %s", entry.name, next_frame.standing(means))
            values |= {f"{entry.name}/{metric}": value for metric, value in means["network"].items()}

        def save_pictures(folder: Path) -> None:
            for predicted in kept:
                write_pictures(folder, predicted)

        lower_is_better = frozenset(name for name in values if name.rpartition("/")[2] in next_frame.ERRORS)
        return Validation(values, example(kept[0]) if kept else {}, lower_is_better, save_pictures)

    return validate


def _title(entry: DatasetOptions, options: Options) -> str | None:
    return f"validating {entry.name}" if options.val.pbar else None
