"""Tests a network on one test set: scores, pictures, and the means that ``metrics.json`` reports."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from vsr.archs.build import spec_of
from vsr.config.options import DatasetOptions, Options
from vsr.contracts import data_spec
from vsr.evaluation import report
from vsr.evaluation.draw.comparison import comparison
from vsr.evaluation.draw.images import write_image
from vsr.evaluation.draw.memory import with_weight_pictures
from vsr.evaluation.draw.next_frame import comparison as prediction_comparison
from vsr.evaluation.draw.next_frame import write_pictures
from vsr.evaluation.draw.videos import clip_videos
from vsr.evaluation.next_frame import PROTOCOL, Predicted, beats_memory, predict_all, standing
from vsr.evaluation.plan import calls_of, deviations, measured_clips, planned, settings
from vsr.evaluation.restore import middle_target, restore, spec_for
from vsr.evaluation.scores import FrameScore, Restored, average, collect, measure_all, overall
from vsr.utils.distributed import Place, from_all_ranks
from vsr.utils.log import counted, logger

SHOWN_SAMPLES = 5  # rows of a next-frame test set's picture


def restoration(
    network: nn.Module, entry: DatasetOptions, options: Options, folder: Path, place: Place, save_weights: bool
) -> tuple[list[FrameScore], dict[str, Any]]:
    """Restores and measures one test set; returns the scores, and their means with the protocol of each metric."""
    started = time.perf_counter()
    num_threads, pictures = entry.loader.num_worker_per_gpu, folder / "visualization" / entry.name
    clips, spec = measured_clips(entry, options.val), spec_for(network, entry.data)
    middle_clip, middle = middle_target(clips)
    shown = middle_clip.name, middle_clip.frames[middle]
    called, steps = planned(network, entry, clips, options.val, place)
    saved: list[Path] = []

    video = clip_videos(pictures) if options.val.save_video and place.world_size == 1 else nullcontext()
    if options.val.save_video and place.world_size > 1:
        logger.warning("val.save_video: no videos are written where several processes share a clip")

    def keep(restored: Restored) -> None:
        if write_video is not None:
            write_video(restored.clip, restored.by_method["network"])
        if options.val.save_img or restored.gt is None:
            suffix = f"_{options.val.suffix}" if options.val.suffix else ""
            saved.append(pictures / restored.clip / f"{restored.frame}{suffix}.png")
            write_image(saved[-1], restored.by_method["network"])
        if (restored.clip, restored.frame) == shown:
            write_image(report.picture_file(folder, entry.name), comparison(restored, spec.scale))

    frames = restore(called, steps, place.device, num_threads, **calls_of(options.val, place.device))
    if save_weights:
        frames = with_weight_pictures(frames, network, folder / "weights" / entry.name)
    measured = measure_all(frames, steps, options.val.metrics, num_threads, spec.scale)
    count = sum(len(step.gives) for step in steps)
    with video as write_video:
        scores = collect(measured, count, entry.name if options.val.pbar else None, place, keep) or []
    saved = from_all_ranks(saved, place)
    seconds, total = time.perf_counter() - started, sum(len(clip.targets) for clip in clips)
    logger.info("%s: %s in %.0f s (%.2f s per frame)", entry.name, counted(total, "frame"), seconds, seconds / total)
    if save_weights:
        logger.info("%s: pictures of the memory's weights in %s", entry.name, folder / "weights" / entry.name)
    if saved and place.is_main:
        warn_of_other_files(pictures, saved)
    if not scores:
        logger.info("%s has no ground truth: nothing to measure; frames in %s", entry.name, pictures)
        return scores, {"protocols": {}, "calls": settings(spec, options.val), "scores": {}}
    degradation, also = data_spec(entry.data).degradation, deviations(spec, entry, options.val)
    protocols = report.describe_protocols(entry.name, clips, spec, options.val.metrics, degradation, also)
    means = average(scores)
    if place.is_main:
        report.show_table(overall(means), f"protocols: {report.protocol_names(protocols)}", folder, entry.name)
        report.warn_of_exact_frames(scores)
        report.warn_of_other_frames(protocols, means.get("bicubic", {}).get("mean", {}))
    return scores, {"protocols": protocols, "calls": settings(spec, options.val), "scores": means}


def prediction(
    network: nn.Module, entry: DatasetOptions, options: Options, folder: Path, place: Place, save_weights: bool
) -> tuple[list[FrameScore], dict[str, Any]]:
    """Predicts and measures one test set; returns the scores, and their means by clip, action and camera."""
    total, num_workers = len(entry.data), entry.loader.num_worker_per_gpu
    shown = {round((row + 0.5) * total / SHOWN_SAMPLES - 0.5) for row in range(SHOWN_SAMPLES)}
    examples: list[Predicted] = []

    def keep(predicted: Predicted) -> None:
        if options.val.save_img or save_weights:
            write_pictures(folder / "visualization" / entry.name, predicted)
        if predicted.number in shown:
            examples.append(predicted)

    predictions = predict_all(network, entry.data, num_workers, place, total if save_weights else 0)
    title = entry.name if options.val.pbar else None
    scores = collect(predictions, len(place.share(total)), title, place, keep) or []
    examples = from_all_ranks(examples, place)
    means = average(scores)
    if place.is_main:
        write_image(report.picture_file(folder, entry.name), prediction_comparison(examples))
        report.show_table(overall(means), f"{total} samples, {spec_of(network).test_type}", folder, entry.name)
        if not beats_memory(overall(means)):
            logger.warning("%s: %s", entry.name, standing(overall(means)))
    labels = {"scores_by_action": average(scores, "action"), "scores_by_camera": average(scores, "camera")}
    return scores, {"protocol": PROTOCOL, "scores": means, **labels}


def warn_of_other_files(folder: Path, saved: list[Path]) -> None:
    """Warns of frames of earlier tests, which look like this network's."""
    others = sorted(set(folder.rglob("*.png")) - set(saved))
    if others:
        example = f"{counted(len(others), 'frame')} of earlier tests, such as {others[0].relative_to(folder)}"
        logger.warning("%s also holds %s: remove the folder to keep only new ones", folder, example)
