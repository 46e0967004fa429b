"""Tests a network on one test set: scores, pictures, and the means that ``metrics.json`` reports."""

import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from vsr.archs.build import spec_of
from vsr.config.options import DatasetOptions, Options
from vsr.contracts import data_spec
from vsr.evaluation import report
from vsr.evaluation.draw.comparison import comparison
from vsr.evaluation.draw.images import write_image
from vsr.evaluation.draw.memory import WeightPictures
from vsr.evaluation.draw.next_frame import comparison as prediction_comparison
from vsr.evaluation.draw.next_frame import panels as prediction_panels
from vsr.evaluation.draw.next_frame import weight_pictures, write_pictures
from vsr.evaluation.draw.videos import clip_videos
from vsr.evaluation.next_frame import ERRORS, PROTOCOL, Predicted, beats_memory, predict_all, standing
from vsr.evaluation.page.album import Album, Shot, fixed_frames, merged
from vsr.evaluation.page.images import cut, panels
from vsr.evaluation.plan import calls_of, deviations, measured_clips, planned, settings, with_precision
from vsr.evaluation.restore import middle_target, restore, spec_for
from vsr.evaluation.scores import FrameScore, Restored, average, collect, measure_all, overall
from vsr.metrics import prepare, traits_of
from vsr.utils.distributed import Place, from_all_ranks
from vsr.utils.log import counted, logger

SHOWN_SAMPLES = 5  # rows of a next-frame test set's picture


class Tested(NamedTuple):
    """The results of a test set: scores, what ``metrics.json`` says of it, and pictures for the report."""

    scores: list[FrameScore]
    described: dict[str, Any]
    shots: list[Shot]


def restoration(
    network: nn.Module, entry: DatasetOptions, options: Options, folder: Path, place: Place, save_weights: bool
) -> Tested:
    """Restores and measures one test set."""
    started = time.perf_counter()
    prepare(options.val.metrics)
    options = replace(options, val=with_precision(options.val, place.device))
    num_threads, pictures = entry.loader.num_worker_per_gpu, folder / "visualization" / entry.name
    clips, spec = measured_clips(entry, options.val), spec_for(network, entry.data)
    middle_clip, middle = middle_target(clips)
    shown = middle_clip.name, middle_clip.frames[middle]
    called, steps = planned(network, entry, clips, options.val, place)
    saved: list[Path] = []
    metric = next(iter(options.val.metrics))
    is_lower = [name for name, call in options.val.metrics.items() if traits_of(call).lower_is_better]
    fixed = fixed_frames(clips, options.val.report_frames) if options.val.report else {}
    album = Album(metric, metric in is_lower, fixed)
    weights = WeightPictures(folder / "weights" / entry.name, fixed, save_weights)

    video = clip_videos(pictures) if options.val.save_video and place.world_size == 1 else nullcontext()
    if options.val.save_video and place.world_size > 1:
        logger.warning("val.save_video: no videos are written where several processes share a clip")

    def keep(restored: Restored, own: list[FrameScore]) -> None:
        if options.val.report:
            frame, cropped = (restored.clip, restored.frame), cut(restored, spec.scale)
            album.add(*frame, own, partial(panels, cropped, spec.scale), partial(dict, weights.drawn.pop(frame, {})))
        if write_video is not None:
            write_video(restored.clip, restored.by_method["network"])
        if options.val.save_img or restored.gt is None:
            suffix = f"_{options.val.suffix}" if options.val.suffix else ""
            saved.append(pictures / restored.clip / f"{restored.frame}{suffix}.png")
            write_image(saved[-1], restored.by_method["network"])
        if (restored.clip, restored.frame) == shown:
            write_image(report.picture_file(folder, entry.name), comparison(restored, spec.scale))

    frames = restore(called, steps, place.device, num_threads, **calls_of(options.val))
    measured = measure_all(weights.of(frames, network), steps, options.val.metrics, num_threads, spec.scale)
    count = sum(len(step.gives) for step in steps)
    with video as write_video:
        scores = collect(measured, count, entry.name if options.val.pbar else None, place, keep) or []
    saved, shots = from_all_ranks(saved, place), from_all_ranks(album.shots(), place)
    seconds, total = time.perf_counter() - started, sum(len(clip.targets) for clip in clips)
    logger.info("%s: %s in %.0f s (%.2f s per frame)", entry.name, counted(total, "frame"), seconds, seconds / total)
    if save_weights:
        logger.info("%s: pictures of the memory's weights in %s", entry.name, folder / "weights" / entry.name)
    if saved and place.is_main:
        warn_of_other_files(pictures, saved)
    described: dict[str, Any] = {"protocols": {}, "calls": settings(spec, options.val), "scores": {}}
    if not scores:
        logger.info("%s has no ground truth: nothing to measure; frames in %s", entry.name, pictures)
        return Tested(scores, described, merged(shots, False))
    degradation, also = data_spec(entry.data).degradation, deviations(spec, entry, options.val)
    protocols = report.describe_protocols(entry.name, clips, spec, options.val.metrics, degradation, also)
    means = average(scores)
    if place.is_main:
        report.show_table(overall(means), f"protocols: {report.protocol_names(protocols)}", folder, entry.name)
        report.warn_of_exact_frames(scores)
        report.warn_of_other_frames(protocols, means.get("bicubic", {}).get("mean", {}))
    described |= {"protocols": protocols, "lower_is_better": is_lower, "scores": means}
    return Tested(scores, described, merged(shots, metric in is_lower))


def prediction(
    network: nn.Module, entry: DatasetOptions, options: Options, folder: Path, place: Place, save_weights: bool
) -> Tested:
    """Predicts and measures one test set."""
    total, num_workers = len(entry.data), entry.loader.num_worker_per_gpu
    shown = {round((row + 0.5) * total / SHOWN_SAMPLES - 0.5) for row in range(SHOWN_SAMPLES)}
    examples: list[Predicted] = []
    album = Album("psnr", False, {})

    def keep(predicted: Predicted, own: list[FrameScore]) -> None:
        if options.val.report:
            draw, draw_weights = partial(prediction_panels, predicted), partial(weight_pictures, predicted)
            album.add(own[0].clip, own[0].frame, own, draw, draw_weights)
        if options.val.save_img or save_weights:
            write_pictures(folder / "visualization" / entry.name, predicted)
        if predicted.number in shown:
            examples.append(predicted)

    has_weights = save_weights or options.val.report
    predictions = predict_all(network, entry.data, num_workers, place, total if has_weights else 0)
    title = entry.name if options.val.pbar else None
    scores = collect(predictions, len(place.share(total)), title, place, keep) or []
    examples, shots = from_all_ranks(examples, place), from_all_ranks(album.shots(), place)
    means = average(scores)
    if place.is_main:
        write_image(report.picture_file(folder, entry.name), prediction_comparison(examples))
        report.show_table(overall(means), f"{total} samples, {spec_of(network).test_type}", folder, entry.name)
        if not beats_memory(overall(means)):
            logger.warning("%s: %s", entry.name, standing(overall(means)))
    labels = {"scores_by_action": average(scores, "action"), "scores_by_camera": average(scores, "camera")}
    described = {"protocol": PROTOCOL, "lower_is_better": list(ERRORS), "scores": means, **labels}
    return Tested(scores, described, merged(shots, False))


def warn_of_other_files(folder: Path, saved: list[Path]) -> None:
    """Warns of frames of earlier tests, which look like this network's."""
    others = sorted(set(folder.rglob("*.png")) - set(saved))
    if others:
        example = f"{counted(len(others), 'frame')} of earlier tests, such as {others[0].relative_to(folder)}"
        logger.warning("%s also holds %s: remove the folder to keep only new ones", folder, example)
