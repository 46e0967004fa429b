"""Tests a network: ``python -m vsr.test -opt options/demo.yml``."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from vsr import config
from vsr.archs.build import spec_of
from vsr.config.command_line import options_parser
from vsr.config.options import DatasetOptions, Options
from vsr.contracts import data_spec
from vsr.engine.saving import checkpoints
from vsr.engine.saving.weights import load_weights
from vsr.evaluation.draw.comparison import comparison
from vsr.evaluation.draw.images import write_image
from vsr.evaluation.draw.memory import with_weight_pictures
from vsr.evaluation.draw.next_frame import comparison as prediction_comparison
from vsr.evaluation.draw.next_frame import write_pictures
from vsr.evaluation.next_frame import PROTOCOL, Predicted, beats_memory, predict_all, standing
from vsr.evaluation.report import (
    describe_protocols,
    keep_former_results,
    picture_file,
    protocol_names,
    sha256,
    show_table,
    versions,
    warn_of_exact_frames,
    warn_of_other_frames,
    write_results,
)
from vsr.evaluation.restore import clips_of, middle_target, restore, spec_for, steps_of
from vsr.evaluation.scores import FrameScore, Restored, average, collect, measure_all, overall
from vsr.ops.backend import announce
from vsr.utils.allocator import keep_freed_memory
from vsr.utils.distributed import Place, from_all_ranks, take_place
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.locks import sole_use
from vsr.utils.log import counted, logger, start_log
from vsr.utils.weight_files import read_weights

SHOWN_SAMPLES = 5  # rows of a next-frame test set's picture


def main(arguments: Sequence[str] | None = None) -> int:
    """Tests the network of an options file on each of its test sets and returns the exit code."""
    args = parse(arguments)
    options = config.load(args.opt, args.set, need="test", missing_data="note" if args.check else "mistake")
    if args.check:
        return config.report_check(args.opt, options)
    if not options.test_sets:
        raise UserError(f"{args.opt} has no test set: add datasets.test with `type: VideoTestDataset`")

    keep_freed_memory()
    folder = Path("results") / options.name
    where = take_place(options.num_gpu, options.dist_params.backend, options.dist_params.port)
    with where as place:
        file, key = find_weights(options, args.weights)
        with sole_use(folder, place.is_main):
            start_log(folder / "test.log", place.is_main)
            for note in options.notes:
                logger.info("note: %s", note)
            announce(place.device.type)
            network = options.network_g()
            load_weights(network, read_weights(file, key, prefer="params_ema"), file)  # all, or it raises
            report = {"name": options.name, "weights": str(file), "weights_sha256": sha256(file)}
            report |= {"versions": versions(), "device": str(place.device)}
            test_all(network.to(place.device).eval(), options, folder, place, args.save_weights, report)
        logger.info("results: %s", folder / "metrics.json")
    return 0


def test_all(
    network: nn.Module, options: Options, folder: Path, place: Place, save_weights: bool, report: dict[str, Any]
) -> None:
    """Tests a network on each test set and writes the results after each, in case the next one cannot be read.

    Args:
        network: in evaluation mode.
        options: name the test sets.
        folder: receives the results.
        place: this process's rank.
        save_weights: also draws what the network's memory reads.
        report: the head of ``metrics.json``.
    """
    test = test_prediction if spec_of(network).task == "next-frame" else test_restoration
    scores: list[tuple[str, FrameScore]] = []
    datasets: dict[str, Any] = {}
    for entry in options.test_sets.values():
        own, datasets[entry.name] = test(network, entry, options, folder, place, save_weights)
        scores += [(entry.name, score) for score in own]
        if place.is_main:
            if len(datasets) == 1:
                keep_former_results(folder)
            write_results(folder, report | {"datasets": datasets}, scores)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    description = "Tests a network from an options file, of a test or of the training that trained it."
    parser = options_parser("vsr test", description, with_check=True)
    parser.add_argument("--weights", metavar="FILE", help="weights to test; see the order in docs/testing.md")
    parser.add_argument("--save_weights", action="store_true", help="also draws what the network's memory reads")
    return parser.parse_args(arguments)


def find_weights(options: Options, given: str | None) -> tuple[Path, str | None]:
    """Returns the weights to test: those given, those an options file for training has trained, or the pretrained.

    With them goes the entry to take, ``path.param_key_g``; of what was trained, the average if there is one.

    Raises:
        UserError: there are none.
    """
    if given is not None:
        return Path(given), options.path.param_key_g
    folder = Path("experiments") / options.name
    trained = checkpoints.newest_weights(folder) if options.train is not None else None
    if trained is not None:
        return trained, None
    pretrained = options.path.pretrained()
    if options.train is None and "" in pretrained:
        return Path(pretrained[""].file), pretrained[""].key
    where = f"no weights in {folder}/models: train first" if options.train else "path.pretrain_network_g is not given"
    raise UserError(f"{where}, or name a file with --weights FILE")


def test_restoration(
    network: nn.Module, entry: DatasetOptions, options: Options, folder: Path, place: Place, save_weights: bool
) -> tuple[list[FrameScore], dict[str, Any]]:
    """Restores and measures one test set; returns the scores, and their means with the protocol of each metric."""
    started = time.perf_counter()
    dataset, num_threads = entry.data, entry.loader.num_worker_per_gpu
    clips, spec = clips_of(dataset, entry.name), spec_for(network, dataset)
    middle_clip, middle = middle_target(clips)
    shown = middle_clip.name, middle_clip.frames[middle]
    steps = place.part(steps_of(spec, clips))
    saved: list[Path] = []

    def keep(restored: Restored) -> None:
        if options.val.save_img or restored.gt is None:
            saved.append(save_frame(folder, entry.name, restored, options.val.suffix))
        if (restored.clip, restored.frame) == shown:
            write_image(picture_file(folder, entry.name), comparison(restored, spec.scale))

    frames = restore(network, steps, place.device, num_threads)
    if save_weights:
        frames = with_weight_pictures(frames, network, folder / "weights" / entry.name)
    measured = measure_all(frames, steps, options.val.metrics, num_threads, spec.scale)
    count = sum(len(step.gives) for step in steps)
    scores = collect(measured, count, entry.name if options.val.pbar else None, place, keep) or []
    saved = from_all_ranks(saved, place)
    seconds, total = time.perf_counter() - started, sum(len(clip.targets) for clip in clips)
    logger.info("%s: %s in %.0f s (%.2f s per frame)", entry.name, counted(total, "frame"), seconds, seconds / total)
    if save_weights:
        logger.info("%s: pictures of the memory's weights in %s", entry.name, folder / "weights" / entry.name)
    if saved and place.is_main:
        warn_of_other_files(folder / "visualization" / entry.name, saved)
    if not scores:
        logger.info("%s has no ground truth: nothing to measure; frames in %s", entry.name, folder / "visualization")
        return scores, {"protocols": {}, "scores": {}}
    protocols = describe_protocols(entry.name, clips, spec, options.val.metrics, data_spec(dataset).degradation)
    show_table(scores, f"protocols: {protocol_names(protocols)}", folder, entry.name, place)
    means = average(scores)
    if place.is_main:
        warn_of_exact_frames(scores)
        warn_of_other_frames(protocols, means.get("bicubic", {}).get("mean", {}))
    return scores, {"protocols": protocols, "scores": means}


def test_prediction(
    network: nn.Module, entry: DatasetOptions, options: Options, folder: Path, place: Place, save_weights: bool
) -> tuple[list[FrameScore], dict[str, Any]]:
    """Predicts and measures one test set; returns the scores, and their means by clip, action and camera."""
    dataset = entry.data
    total = len(dataset)
    shown = {round((row + 0.5) * total / SHOWN_SAMPLES - 0.5) for row in range(SHOWN_SAMPLES)}
    examples: list[Predicted] = []

    def keep(predicted: Predicted) -> None:
        if options.val.save_img or save_weights:
            write_pictures(folder / "visualization" / entry.name, predicted)
        if predicted.number in shown:
            examples.append(predicted)

    predictions = predict_all(network, dataset, entry.loader.num_worker_per_gpu, place, total if save_weights else 0)
    title = entry.name if options.val.pbar else None
    scores = collect(predictions, len(place.share(total)), title, place, keep) or []
    examples = from_all_ranks(examples, place)
    if examples and place.is_main:
        write_image(picture_file(folder, entry.name), prediction_comparison(examples))
    show_table(scores, f"{total} samples, {spec_of(network).test_type}", folder, entry.name, place)
    means = {by: average(scores, by) for by in ("clip", "action", "camera")}
    if place.is_main and not beats_memory(overall(means["clip"])):
        logger.warning("%s: %s", entry.name, standing(overall(means["clip"])))
    labels = {f"scores_by_{by}": means[by] for by in ("action", "camera")}
    return scores, {"protocol": PROTOCOL, "scores": means["clip"], **labels}


def warn_of_other_files(folder: Path, saved: list[Path]) -> None:
    """Warns of frames of earlier tests, which could be taken for this network's."""
    others = sorted(set(folder.rglob("*.png")) - set(saved))
    if others:
        logger.warning(
            "%s also holds %s of earlier tests, such as %s: remove the folder to keep only new ones",
            folder,
            counted(len(others), "frame"),
            others[0].relative_to(folder),
        )


def save_frame(folder: Path, dataset: str, restored: Restored, suffix: str | None) -> Path:
    """Writes the network's frame to ``visualization/DATASET/CLIP/FRAME.png``, and returns the file."""
    name = f"{restored.frame}_{suffix}.png" if suffix else f"{restored.frame}.png"
    file = folder / "visualization" / dataset / restored.clip / name
    write_image(file, restored.by_method["network"])
    return file


if __name__ == "__main__":
    exit_cleanly(main)
