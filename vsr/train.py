"""Trains a network: ``python -m vsr.train -opt options/demo.yml``."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from vsr import config
from vsr.config.command_line import options_parser
from vsr.config.options import Options
from vsr.data.stream.loader import batches
from vsr.data.stream.prefetch import prefetched
from vsr.data.stream.sampler import TrainSampler
from vsr.engine.run import Run
from vsr.engine.saving import checkpoints
from vsr.engine.saving.resume import check_training_set, differences, training_set_of
from vsr.engine.saving.state import load_state
from vsr.engine.trainer import Trainer
from vsr.evaluation.results_folder import results_folder
from vsr.evaluation.validation import prediction_validation, restoration_validation
from vsr.ops.backend import announce
from vsr.registry import task_of
from vsr.utils import random_state
from vsr.utils.allocator import keep_freed_memory
from vsr.utils.distributed import Place, from_all_ranks, take_place
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.files import remove_unfinished, write_text_atomically
from vsr.utils.locks import sole_use
from vsr.utils.log import logger, start_log
from vsr.utils.weight_files import read, read_weights

RESUME_MODES = ("exact", "new_schedule", "weights")
NEW_START = "--resume_mode weights --set path.resume_state=FILE --set name=NEW"


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains what an options file describes and returns the exit code."""
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
            text = yaml.safe_dump(options.tree.to_dict(), sort_keys=False)
            write_text_atomically(folder / f"{options.name}.yml", text)
        introduce(options, place)
        announce(place.device.type)

        trainer = make_trainer(options, place, folder, found, args.resume_mode)
        del found  # of three to four times the network's size
        trainer.fit()
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = options_parser("python -m vsr.train", "Trains a network from an options file.", with_check=True)
    parser.add_argument(
        "--auto_resume", action="store_true", help="resumes from the experiment's newest state, if there is one"
    )
    parser.add_argument(
        "--resume_mode",
        choices=RESUME_MODES,
        default="exact",
        help="exact: nothing that matters may have changed (default); new_schedule: resumes from the state, under the "
        "options as they are now; weights: a new training from the weights of path.resume_state",
    )
    parser.add_argument(
        "--local-rank",
        "--local_rank",
        "--launcher",
        metavar="ANY",
        help="ignored; older launchers and BasicSR's commands add it",
    )
    return parser.parse_args(arguments)


def find_state(options: Options, folder: Path, place: Place, auto_resume: bool, mode: str) -> checkpoints.Found | None:
    """Returns the state to resume from; None to start anew.

    Raises:
        UserError: the experiment exists and nothing says that it should be resumed, or its options have changed.
    """
    if mode == "weights" and options.path.resume_state is None:
        raise UserError(f"--resume_mode weights needs to know the state: {NEW_START}")
    exists = bool(checkpoints.states(folder) or checkpoints.newest_weights(folder))
    if exists and (mode == "weights" or not (auto_resume or options.path.resume_state)):
        raise UserError(
            f"experiment '{options.name}' exists in {folder} and would be overwritten: resume it with --auto_resume, "
            "choose another name (--set name=…), or remove the folder"
        )
    found = checkpoints.newest_state(folder) if auto_resume else None
    if found is None and options.path.resume_state is not None:
        file = Path(options.path.resume_state)
        found = checkpoints.Found(file, read(file))
    if found is None and exists:
        raise UserError(
            f"experiment '{options.name}' has no state in {folder}/training_states that can be read: put one back from "
            "a copy, or train under another name, from its weights perhaps: --set name=NEW --set "
            f"path.pretrain_network_g={checkpoints.newest_weights(folder) or 'FILE'}"
        )
    if found is None:
        return None
    file, state = found
    if not {"network", "iteration", "settings", "effective_batch"} <= state.keys() or not state["settings"]:
        raise UserError(f"{file} is not a training state of vsr; path.pretrain_network_g starts from weights")
    if state.get("format") != checkpoints.STATE_FORMAT and mode != "weights":
        raise UserError(
            f"{file} was written by another version of vsr (its format is {state.get('format')}, this version's "
            f"{checkpoints.STATE_FORMAT}): finish with that one, or start anew from its weights: {NEW_START}"
        )
    saved = checkpoints.last_iteration(folder)
    if not auto_resume and saved > state["iteration"]:  # what was saved later would pass for this training's
        raise UserError(
            f"{file} is of iteration {state['iteration']}, and experiment '{options.name}' has got to {saved}: resume "
            "from there with --auto_resume, or from here under another name, --set name=NEW"
        )
    changes = differences(state["settings"], options.tree.to_dict())
    if state["effective_batch"] != effective_batch(options, place):
        changes.append(f"effective batch: {state['effective_batch']} → {effective_batch(options, place)}")
    if changes and mode == "exact":
        raise UserError(
            f"the options have changed since {file} was written:\n"
            + "\n".join(f"  {change}" for change in changes)
            + "\nChange them back, or say what is meant: --resume_mode new_schedule resumes the state under the "
            f"new options; a new training from its weights: {NEW_START}"
        )
    for change in changes:
        logger.info("changed option %s", change)
    return found


def introduce(options: Options, place: Place) -> None:
    """Logs what is about to run: old spellings, what differs from the defaults, device and effective batch."""
    for note in options.notes:
        logger.info("note: %s", note)
    for change in options.changes:
        logger.info("option %s", change)
    device = torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else "CPU"
    logger.info(
        "%s on %s: %d process(es) × batch %d × accumulate %d = effective batch %d",
        options.name,
        device,
        place.world_size,
        options.datasets["train"].loader.batch_size_per_gpu,
        options.train.accumulate,
        effective_batch(options, place),
    )
    if options.num_gpu not in ("auto", 0, place.world_size):
        logger.warning(
            "num_gpu is %d, but %d process(es) run; torchrun --nproc_per_node=%d -m vsr.train … starts as many",
            options.num_gpu,
            place.world_size,
            options.num_gpu,
        )


def make_trainer(options: Options, place: Place, folder: Path, found: checkpoints.Found | None, mode: str) -> Trainer:
    """Returns the trainer with the weights to start from, or the state to resume.

    Raises:
        UserError: these do not fit, or another process resumes from elsewhere.
    """
    random_state.seed(options.manual_seed)
    network = options.network_g()
    logger.info("%s: %s parameters", type(network).__name__, f"{sum(p.numel() for p in network.parameters()):,}")
    path, loaded = options.path, []
    if found is not None and mode == "weights":
        match = checkpoints.load_weights(network, found.state["network"], found.file, path.strict_load_g)
        loaded, found = found.state["loaded"] or match.matched, None
    elif found is None and path.pretrain_network_g:
        file = Path(path.pretrain_network_g)
        weights = read_weights(file, path.param_key_g)
        loaded = checkpoints.load_weights(network, weights, file, path.strict_load_g).matched

    run = make_run(options, place, folder, loaded)
    if found is not None and "training_set" in found.state:  # older states do not know
        check_training_set(found.file, found.state["training_set"], run.training_set, mode != "exact")
    trainer = options.trainer(network, run, train=options.train)
    if found is not None:
        load_state(trainer, found.state, keep_rates=mode == "exact")
        logger.info("resumed from %s at iteration %d", found.file, trainer.iteration)
    iterations = from_all_ranks([trainer.iteration], place)
    if len(set(iterations)) > 1:
        raise UserError(
            f"the processes would resume from different iterations, {sorted(set(iterations))}: each has to see the "
            f"same {folder}; start them in a folder that the machines share"
        )
    return trainer


def make_run(options: Options, place: Place, folder: Path, loaded: list[str]) -> Run:
    """Opens the data sets and returns what the trainer works with."""
    train = options.datasets["train"]
    dataset, loader = train.open(), train.loader

    def training_batches(start: int) -> Iterator[dict[str, Any]]:
        sampler = TrainSampler(
            len(dataset),
            loader.dataset_enlarge_ratio,
            seed=options.manual_seed,
            shuffle=loader.use_shuffle,
            start=start,
            rank=place.rank,
            world_size=place.world_size,
        )
        stream = batches(
            dataset,
            sampler,
            batch_size=loader.batch_size_per_gpu,
            num_workers=loader.num_worker_per_gpu,
            prefetch=loader.num_prefetch_queue,
            pin_memory=loader.pin_memory and place.device.type == "cuda",
            augment_later=loader.augment_on_gpu,
        )
        return prefetched(stream, loader.prefetch_mode, loader.num_prefetch_queue, place.device)

    validation_sets = [entry for phase, entry in options.datasets.items() if phase.startswith("val")]
    predicts = task_of(options.trainer) == "next-frame"
    make_validation = prediction_validation if predicts else restoration_validation
    validate = make_validation(options, validation_sets, place) if validation_sets else None
    return Run(
        place=place,
        folder=folder,
        logger=options.logger,
        val_freq=options.val.val_freq,
        batches=training_batches,
        effective_batch=effective_batch(options, place),
        training_set=training_set_of(train.open, dataset),
        validate=validate,
        settings=options.tree.to_dict(),
        loaded=loaded,
        results=folder / "Results" / results_folder(options) if predicts else None,
    )


def effective_batch(options: Options, place: Place) -> int:
    """Returns the samples of an optimiser step, over all processes."""
    return options.datasets["train"].loader.batch_size_per_gpu * place.world_size * options.train.accumulate


if __name__ == "__main__":
    exit_cleanly(main)
