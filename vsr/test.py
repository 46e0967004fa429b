"""Tests a network: ``python -m vsr.test -opt options/demo.yml``."""

import argparse
import csv
import hashlib
import io
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import vsr
from vsr import config
from vsr.evaluation import (
    FrameScore,
    Restore,
    Restored,
    average,
    baselines,
    measure,
    network_restorer,
    restore_all,
    write_image,
)
from vsr.metrics import protocol_for
from vsr.ops.backend import announce
from vsr.options import DatasetOptions, Options
from vsr.pictures import comparison
from vsr.train import report_check
from vsr.trainers import checkpoint
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.files import write_text_atomically
from vsr.utils.log import logger, start_log
from vsr.utils.memory import keep_freed_memory
from vsr.utils.place import Place, from_all_ranks, take_place
from vsr.weight_pictures import save_weight_pictures


def main(arguments: Sequence[str] | None = None) -> int:
    """Tests the network of an options file on each of its test sets and returns the exit code."""
    args = parse(arguments)
    options = config.load(args.opt, args.set, need="test", missing_data="note" if args.check else "mistake")
    if args.check:
        return report_check(args.opt, options)
    test_sets = {phase: entry for phase, entry in options.datasets.items() if phase != "train"}
    if not test_sets:
        raise UserError(f"{args.opt} has no test set: add datasets.test with `type: VideoTestDataset`")

    keep_freed_memory()
    with take_place(options.num_gpu) as place:
        file = find_weights(options, args.weights)
        folder = Path("results") / options.name
        start_log(folder / "test.log", place.is_main)
        for note in options.notes:
            logger.info("note: %s", note)
        if (folder / "metrics.json").exists():
            logger.info("replacing the results in %s", folder)

        announce(place.device.type)
        network = options.network_g()
        weights = checkpoint.read_weights(file, options.path.param_key_g, prefer="params_ema")
        checkpoint.load_weights(network, weights, file, options.path.strict_load_g)
        network.to(place.device).eval()
        methods = {**baselines(options.scale), "network": network_restorer(network, options.scale, place.device)}

        report: dict[str, Any] = {"name": options.name, "weights": str(file), "weights_sha256": sha256(file)}
        report |= {"versions": versions(), "device": str(place.device), "datasets": {}}
        scores: list[tuple[str, FrameScore]] = []
        for entry in test_sets.values():
            if args.save_weights and place.is_main:
                save_weight_pictures(network, entry, folder / "weights" / entry.name, place.device)
            own, protocols = test(entry, options, methods, folder, place)
            scores += [(entry.name, score) for score in own]
            report["datasets"][entry.name] = {"protocols": protocols, "scores": average(own)}
        if place.is_main:
            write_results(folder, report, scores)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = argparse.ArgumentParser(prog="python -m vsr.test", description="Tests a network from an options file.")
    parser.add_argument(
        "-opt", "--opt", required=True, metavar="FILE", help="options file (YAML), of a test or a training"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="overrides an option; may be repeated"
    )
    parser.add_argument("--check", action="store_true", help="checks the options and stops; missing data is only noted")
    parser.add_argument("--weights", metavar="FILE", help="weights to test; see the order in docs/testing.md")
    parser.add_argument("--save_weights", action="store_true", help="also draws what the network's memory reads")
    return parser.parse_args(arguments)


def find_weights(options: Options, given: str | None) -> Path:
    """Returns the weights to test: those given, those an options file for training has trained, or the pretrained.

    Raises:
        UserError: there are none.
    """
    if given is not None:
        return Path(given)
    folder = Path("experiments") / options.name
    trained = checkpoint.newest_weights(folder) if options.train is not None else None
    if trained is not None:
        return trained
    if options.train is None and options.path.pretrain_network_g is not None:
        return Path(options.path.pretrain_network_g)
    where = f"no weights in {folder}/models: train first" if options.train else "path.pretrain_network_g is not given"
    raise UserError(f"{where}, or name a file with --weights FILE")


def test(
    entry: DatasetOptions, options: Options, methods: dict[str, Restore], folder: Path, place: Place
) -> tuple[list[FrameScore], dict[str, Any]]:
    """Restores and measures one test set; returns the scores, and the protocol of each metric."""
    dataset = entry.open()
    has_gt = dataset.gt is not None
    shown = dataset[len(dataset) // 2]["key"]
    scores: list[FrameScore] = []
    started = time.perf_counter()
    title = entry.name if options.val.pbar and place.is_main else None
    for restored in restore_all(methods, dataset, entry.loader.num_worker_per_gpu, title, place):
        scores += measure(restored, options.val.metrics)
        if options.val.save_img or not has_gt:
            save_frame(folder, entry.name, restored, options.val.suffix)
        if f"{restored.clip}/{restored.frame}" == shown:
            write_image(picture_file(folder, entry.name), comparison(restored, options.scale))
    scores = [score for part in from_all_ranks(scores, place) for score in part]
    seconds = time.perf_counter() - started
    logger.info("%s: %d frames in %.0f s (%.2f s per frame)", entry.name, len(dataset), seconds, seconds / len(dataset))
    if not has_gt:
        logger.info("%s has no ground truth: nothing to measure; frames in %s", entry.name, folder / "visualization")
        return scores, {}
    protocols = describe_protocols(dataset, entry.name, options)
    text = table(scores, {name: protocol["name"] for name, protocol in protocols.items()})
    text = f"{entry.name}\n{text}\npicture: {picture_file(folder, entry.name)}"
    logger.info(text)
    if place.is_main:
        write_text_atomically(folder / f"{entry.name}_table.txt", f"{text}\n")
    return scores, protocols


def picture_file(folder: Path, dataset: str) -> Path:
    """Returns the file of a test set's side-by-side picture."""
    return folder / "visualization" / f"{dataset}_comparison.png"


def describe_protocols(dataset: Any, name: str, options: Options) -> dict[str, Any]:
    """Returns how each metric was measured, by the metric's name."""
    frames = [clip.num_frames for clip in dataset.clips]
    return {
        metric: protocol_for(
            name,
            frames,
            dataset.padding,
            call.keywords.get("crop_border", 0),
            call.keywords.get("test_y_channel", False),
        )._asdict()
        for metric, call in options.val.metrics.items()
    }


def table(scores: list[FrameScore], protocols: dict[str, str]) -> str:
    """Returns the means as a table: a row per method, a column per metric."""
    means = {method: clips["mean"] for method, clips in average(scores).items()}
    width = max(len(method) for method in means) + 2
    columns = list(next(iter(means.values())))
    lines = [" " * width + "".join(f"{column:>10}" for column in columns)]
    lines += [f"{method:<{width}}" + "".join(f"{row[c]:>10.4f}" for c in columns) for method, row in means.items()]
    lines += [f"protocols: {', '.join(f'{metric} {name}' for metric, name in protocols.items())}"]
    return "\n".join(lines)


def save_frame(folder: Path, dataset: str, restored: Restored, suffix: str | None) -> None:
    """Writes the network's frame to ``visualization/DATASET/CLIP/FRAME.png``."""
    name = f"{restored.frame}_{suffix}.png" if suffix else f"{restored.frame}.png"
    write_image(folder / "visualization" / dataset / restored.clip / name, restored.by_method["network"])


def write_results(folder: Path, report: dict[str, Any], scores: list[tuple[str, FrameScore]]) -> None:
    """Writes ``metrics.csv``, a row per frame and method, and ``metrics.json``, means and how they were measured."""
    text = io.StringIO()
    writer = csv.writer(text)
    metrics = list(dict.fromkeys(name for _, score in scores for name in score.values))
    writer.writerow(["dataset", "method", "clip", "frame", *metrics])
    for dataset, score in scores:
        writer.writerow([dataset, score.method, score.clip, score.frame, *(score.values[name] for name in metrics)])
    write_text_atomically(folder / "metrics.csv", text.getvalue())
    write_text_atomically(folder / "metrics.json", json.dumps(report, indent=2) + "\n")
    logger.info("results: %s", folder / "metrics.json")


def sha256(file: Path) -> str:
    """Returns the file's SHA-256 in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def versions() -> dict[str, str]:
    """Returns the versions that a number depends on."""
    return {
        "vsr": vsr.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


if __name__ == "__main__":
    exit_cleanly(main)
