"""Tests a network: ``python -m vsr.test -opt options/demo.yml``."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from vsr import config
from vsr.config.command_line import options_parser
from vsr.config.options import DatasetOptions, Options
from vsr.engine.saving import checkpoints
from vsr.engine.saving.weights import load_weights
from vsr.evaluation import next_frame
from vsr.evaluation.draw.comparison import comparison
from vsr.evaluation.draw.images import write_image
from vsr.evaluation.draw.memory import save_weight_pictures
from vsr.evaluation.draw.next_frame import comparison as prediction_comparison
from vsr.evaluation.draw.next_frame import write_pictures
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
from vsr.evaluation.restore import (
    Restored,
    baselines,
    full_float32,
    measure_all,
    network_restorer,
    restore_all,
)
from vsr.evaluation.scores import FrameScore, average
from vsr.ops.backend import announce
from vsr.registry import task_of
from vsr.utils.allocator import keep_freed_memory
from vsr.utils.distributed import Place, from_all_ranks, take_place
from vsr.utils.errors import UserError, exit_cleanly
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
    where = take_place(options.num_gpu, options.dist_params.backend, options.dist_params.port)
    with where as place, full_float32():
        file, key = find_weights(options, args.weights)
        folder = Path("results") / options.name
        start_log(folder / "test.log", place.is_main)
        for note in options.notes:
            logger.info("note: %s", note)

        announce(place.device.type)
        network = options.network_g()
        weights = read_weights(file, key, prefer="params_ema")
        load_weights(network, weights, file)  # all of them, or the numbers would be another network's
        network.to(place.device).eval()
        test = test_prediction if task_of(network) == "next-frame" else test_restoration

        report: dict[str, Any] = {"name": options.name, "weights": str(file), "weights_sha256": sha256(file)}
        report |= {"versions": versions(), "device": str(place.device), "datasets": {}}
        scores: list[tuple[str, FrameScore]] = []
        for entry in options.test_sets.values():
            own, summary = test(network, entry, options, folder, place, args.save_weights)
            scores += [(entry.name, score) for score in own]
            report["datasets"][entry.name] = summary
            if place.is_main:  # after each set, in case the next one cannot be read
                if len(report["datasets"]) == 1:
                    keep_former_results(folder)
                write_results(folder, report, scores)
        logger.info("results: %s", folder / "metrics.json")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    description = "Tests a network from an options file, of a test or of the training that trained it."
    parser = options_parser("python -m vsr.test", description, with_check=True)
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
    if save_weights and place.is_main:
        save_weight_pictures(network, entry, folder / "weights" / entry.name, place.device)
    methods = {**baselines(options.scale), "network": network_restorer(network, options.scale, place.device)}
    dataset = entry.open()
    has_gt = getattr(dataset, "gt", dataset) is not None
    shown = len(dataset) // 2
    scores: list[FrameScore] = []
    saved: list[Path] = []
    started = time.perf_counter()
    title = entry.name if options.val.pbar and place.is_main else None
    frames = restore_all(methods, dataset, entry.loader.num_worker_per_gpu, title, place)
    measured = measure_all(frames, options.val.metrics)
    for number, (restored, own) in zip(place.share(len(dataset)), measured, strict=True):
        scores += own
        if options.val.save_img or not has_gt:
            saved.append(save_frame(folder, entry.name, restored, options.val.suffix))
        if number == shown:
            write_image(picture_file(folder, entry.name), comparison(restored, options.scale))
    scores, saved = from_all_ranks(scores, place), from_all_ranks(saved, place)
    seconds = time.perf_counter() - started
    if save_weights and place.is_main:
        logger.info("%s: pictures of the memory's weights in %s", entry.name, folder / "weights" / entry.name)
    done = counted(len(dataset), "frame")
    logger.info("%s: %s in %.0f s (%.2f s per frame)", entry.name, done, seconds, seconds / len(dataset))
    if saved and place.is_main:
        tell_of_other_frames(folder / "visualization" / entry.name, saved)
    if not has_gt:
        logger.info("%s has no ground truth: nothing to measure; frames in %s", entry.name, folder / "visualization")
        return scores, {"protocols": {}, "scores": {}}
    protocols = describe_protocols(dataset, entry.name, options)
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
    dataset = entry.open()
    shown = {round((row + 0.5) * len(dataset) / SHOWN_SAMPLES - 0.5) for row in range(SHOWN_SAMPLES)}
    examples: list[next_frame.Predicted] = []
    scores: list[FrameScore] = []
    title = entry.name if options.val.pbar and place.is_main else None
    num_weights = len(dataset) if save_weights else 0
    num_workers = entry.loader.num_worker_per_gpu
    for number, predicted in next_frame.predict_all(network, dataset, num_workers, title, place, num_weights):
        scores += next_frame.measure(predicted)
        if options.val.save_img or save_weights:
            write_pictures(folder / "visualization" / entry.name, number, predicted)
        if number in shown:
            examples.append(predicted)
    scores, examples = from_all_ranks(scores, place), from_all_ranks(examples, place)
    if examples and place.is_main:
        write_image(picture_file(folder, entry.name), prediction_comparison(examples))
    show_table(scores, f"{len(dataset)} samples, {dataset.test_type}", folder, entry.name, place)
    means = {by: average(scores, by) for by in ("clip", "action", "camera")}
    overall = {method: clips["mean"] for method, clips in means["clip"].items()}
    if place.is_main and not next_frame.beats_memory(overall):
        logger.warning("%s: %s", entry.name, next_frame.standing(overall))
    labels = {f"scores_by_{by}": means[by] for by in ("action", "camera")}
    return scores, {"protocol": next_frame.PROTOCOL, "scores": means["clip"], **labels}


def tell_of_other_frames(folder: Path, saved: list[Path]) -> None:
    """Warns of frames that were not restored now: they would pass for this network's."""
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
