"""Tests a network: ``python -m vsr.test -opt options/demo.yml``."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import nn

from vsr import config
from vsr.archs.build import spec_of
from vsr.config.command_line import options_parser
from vsr.config.options import Options
from vsr.engine.saving import checkpoints
from vsr.engine.saving.weights import load_weights
from vsr.evaluation import testing
from vsr.evaluation.page.results import FORMAT, Result, former_result
from vsr.evaluation.page.write import write_report
from vsr.evaluation.report import keep_former_results, versions, write_results
from vsr.ops.backend import announce
from vsr.utils.allocator import keep_freed_memory
from vsr.utils.distributed import Place, take_place
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.locks import sole_use
from vsr.utils.log import logger, start_log
from vsr.utils.weight_files import read_entry


def main(arguments: Sequence[str] | None = None) -> int:
    """Tests the network of an options file on each of its test sets and returns the exit code."""
    description = "Tests the network of an options file, with the weights of its training or of a file."
    parser = options_parser("vsr test", description, with_check=True)
    parser.add_argument("--weights", metavar="FILE", help="weights to test; docs/testing.md names the default")
    parser.add_argument("--save_weights", action="store_true", help="also draws the weights of the network's memory")
    args = parser.parse_args(arguments)
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
            entry, weights = read_entry(file, key, prefer="params_ema")
            load_weights(network, weights, file)
            if entry == "params_ema":
                text = "tests the average of the weights (EMA); the others: --weights %s --set path.param_key_g=params"
                logger.info(text, file)
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            report = {"format": FORMAT, "name": options.name, "network": type(network).__name__, "weights": str(file)}
            report |= {"weights_entry": entry, "weights_sha256": digest, "versions": versions()}
            report |= {"device": str(place.device), "tested": datetime.now().isoformat(timespec="seconds")}
            report["options"] = options.resolved.to_dict()
            test_all(network.to(place.device).eval(), options, folder, place, args.save_weights, report)
        logger.info("results: %s", folder / "metrics.json")
    return 0


def test_all(
    network: nn.Module, options: Options, folder: Path, place: Place, save_weights: bool, report: dict[str, Any]
) -> None:
    """Tests a network on each test set; writes the results after each, with ``report`` as their head."""
    test = testing.prediction if spec_of(network).task == "next-frame" else testing.restoration
    tested: dict[str, testing.Tested] = {}
    for entry in options.test_sets.values():
        tested[entry.name] = test(network, entry, options, folder, place, save_weights)
        report["complete"] = len(tested) == len(options.test_sets)
        report["datasets"] = {name: own.described for name, own in tested.items()}
        if place.is_main:
            if len(tested) == 1:
                keep_former_results(folder)
            write_results(folder, report, [(name, score) for name, own in tested.items() for score in own.scores])
    if place.is_main and options.val.report:
        scores = {name: own.scores for name, own in tested.items()}
        result = Result("network", report, scores, {name: own.shots for name, own in tested.items()})
        write_report(folder / "report.html", result, former_result(folder))
        logger.info("report: %s", folder / "report.html")


def find_weights(options: Options, given: str | None) -> tuple[Path, str | None]:
    """Returns the file of the weights to test, and its entry, ``path.param_key_g``; None is the average, if any.

    These are the given weights, those that an options file for training has trained, or the pretrained ones.
    """
    if given is not None:
        return Path(given), options.path.param_key_g
    folder = Path("experiments") / options.name
    trained = checkpoints.newest_weights(folder) if options.train is not None else None
    if trained is not None:
        return trained, None
    pretrained = options.path.pretrained().get("")
    if options.train is None and pretrained is not None:
        return Path(pretrained.file), pretrained.key
    where = f"no weights in {folder}/models: train first" if options.train else "path.pretrain_network_g is not given"
    raise UserError(f"{where}, or name a file with --weights FILE")


if __name__ == "__main__":
    exit_cleanly(main)
