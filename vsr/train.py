"""Trains a network: ``python -m vsr.train -opt options/demo.yml``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from vsr import config
from vsr.config.command_line import options_parser
from vsr.config.options import Options
from vsr.engine.loop import fit
from vsr.engine.saving.start import RESUME_MODES, effective_batch, find_state, make_trainer
from vsr.evaluation.results_folder import results_folder
from vsr.evaluation.validation import prediction_validation, restoration_validation
from vsr.ops.backend import announce
from vsr.utils.allocator import keep_freed_memory
from vsr.utils.distributed import Place, take_place
from vsr.utils.errors import exit_cleanly
from vsr.utils.files import remove_unfinished, write_text_atomically
from vsr.utils.locks import sole_use
from vsr.utils.log import counted, logger, start_log


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains the network of an options file and returns the exit code."""
    args = parse(arguments)
    options = config.load(args.opt, args.set, need="train", missing_data="note" if args.check else "mistake")
    if args.check:
        return config.report_check(args.opt, options)

    keep_freed_memory()
    folder = Path("experiments") / options.name
    where = take_place(options.num_gpu, options.dist_params.backend, options.dist_params.port)
    with where as place, sole_use(folder, place.is_main):
        start_log(folder / "train.log" if folder.is_dir() else None, place.is_main)
        found = find_state(options, folder, place, args.auto_resume, args.resume_mode)
        start_log(folder / "train.log", place.is_main)
        if place.is_main:
            remove_unfinished(folder)
            text = yaml.safe_dump(options.resolved.to_dict(), sort_keys=False)
            write_text_atomically(folder / f"{options.name}.yml", text)
        introduce(options, place)
        announce(place.device.type)

        predicts = options.trainer.task == "next-frame"
        make_validation = prediction_validation if predicts else restoration_validation
        validation_sets = [entry for phase, entry in options.datasets.items() if phase.startswith("val")]
        validate = make_validation(options, validation_sets, place) if validation_sets else None
        results = folder / "Results" / results_folder(options) if predicts else None
        trainer = make_trainer(options, place, folder, found, args.resume_mode, validate, results)
        del found  # of three to four times the network's size
        fit(trainer)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = options_parser("vsr train", "Trains a network from an options file.", with_check=True)
    text = "resumes from the experiment's newest state, if there is one"
    parser.add_argument("--auto_resume", action="store_true", help=text)
    text = (
        "exact: nothing that matters may have changed (default); new_schedule: resumes from the state, under the "
        "options as they are now; weights: a new training from the weights of path.resume_state"
    )
    parser.add_argument("--resume_mode", choices=RESUME_MODES, default="exact", help=text)
    text = "ignored; older launchers and BasicSR's commands add it"
    parser.add_argument("--local-rank", "--local_rank", "--launcher", metavar="ANY", help=text)
    return parser.parse_args(arguments)


def introduce(options: Options, place: Place) -> None:
    """Logs the training in a sentence, notes, how many options are not the defaults (the file: which), and device."""
    logger.info(
        f"training {options.resolved.network_g.type} for {options.train.total_iter:,} iterations; weights, states and "
        f"this log: experiments/{options.name}. Ctrl-C saves a state, --auto_resume resumes from it"
    )
    for note in options.notes:
        logger.info("note: %s", note)
    for warning in options.warnings:
        logger.warning("%s", warning)
    for change in options.changes:
        logger.debug("option %s", change)
    if options.changes:
        logger.info(
            "%s with other values than the default: train.log lists them", counted(len(options.changes), "option")
        )
    device = torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else "CPU"
    batch, count = options.datasets["train"].loader.batch_size_per_gpu, place.world_size
    logger.info(
        f"{options.name} on {device}: {count} process(es) × batch {batch} × accumulate {options.train.accumulate} = "
        f"effective batch {effective_batch(options, place)}"
    )
    if options.num_gpu not in ("auto", 0, count):
        text = "num_gpu is %d, but %d process(es) run; torchrun --nproc_per_node=%d -m vsr.train … starts as many"
        logger.warning(text, options.num_gpu, count, options.num_gpu)


if __name__ == "__main__":
    exit_cleanly(main)
