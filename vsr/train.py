"""Trains a network: ``python -m vsr.train -opt options/demo.yml``."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from vsr import config
from vsr.data.loader import batches
from vsr.data.sampler import TrainSampler
from vsr.evaluation import average, measure, network_restorer, restore_all
from vsr.options import DatasetOptions, Options
from vsr.trainers import checkpoint
from vsr.trainers.trainer import Run
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.files import write_text_atomically
from vsr.utils.log import logger, start_log
from vsr.utils.place import Place, take_place
from vsr.utils.signals import StopSignals


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains what an options file describes and returns the exit code."""
    args = parse(arguments)
    options = config.load(args.opt, args.set, need="train", missing_data="note" if args.check else "mistake")
    if args.check:
        return report_check(args.opt, options)

    with take_place(options.num_gpu, options.dist_params.backend, options.dist_params.port) as place:
        folder = Path("experiments") / options.name
        state_file = find_state(options, folder, args.auto_resume)
        start_log(folder / "train.log", place.is_main)
        write_text_atomically(folder / f"{options.name}.yml", yaml.safe_dump(options.tree.to_dict(), sort_keys=False))
        introduce(options, place)

        torch.manual_seed(options.manual_seed)
        network = options.network_g()
        if options.path.pretrain_network_g and state_file is None:
            file = Path(options.path.pretrain_network_g)
            weights = checkpoint.read_weights(file, options.path.param_key_g)
            match = checkpoint.load_weights(network, weights, file, options.path.strict_load_g)
            logger.info("loaded %s: %s", file, match)
        logger.info("%s: %s parameters", type(network).__name__, f"{sum(p.numel() for p in network.parameters()):,}")

        trainer = options.trainer(network, make_run(options, place, folder), train=options.train)
        if state_file is not None:
            trainer.load_state(checkpoint.read(state_file))
            logger.info("resumed from %s: iteration %d", state_file, trainer.iteration)
        trainer.fit()
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = argparse.ArgumentParser(prog="python -m vsr.train", description="Trains a network from an options file.")
    parser.add_argument("-opt", "--opt", required=True, metavar="FILE", help="options file (YAML)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="overrides an option; may be repeated"
    )
    parser.add_argument("--check", action="store_true", help="checks the options and stops; missing data is only noted")
    parser.add_argument(
        "--auto_resume", action="store_true", help="goes on from the experiment's newest state, if there is one"
    )
    return parser.parse_args(arguments)


def report_check(file: str, options: Options) -> int:
    """Prints what ``--check`` found and returns the exit code of success."""
    for note in options.notes:
        sys.stdout.write(f"note: {note}\n")
    sys.stdout.write(f"{file}: options are right ({options.name}, {options.tree['network_g']['type']})\n")
    return 0


def find_state(options: Options, folder: Path, auto_resume: bool) -> Path | None:
    """Returns the state to go on from; None to start anew.

    Raises:
        UserError: the experiment exists, and nothing says that it should go on.
    """
    if options.path.resume_state is not None:
        return Path(options.path.resume_state)
    states = checkpoint.states(folder)
    if auto_resume:
        return states[0] if states else None
    if states or checkpoint.newest_weights(folder):
        raise UserError(
            f"experiment '{options.name}' exists in {folder} and would be overwritten: go on with --auto_resume, "
            f"choose another name (--set name=…), or remove the folder"
        )
    return None


def introduce(options: Options, place: Place) -> None:
    """Logs what is about to run: old spellings, what differs from the defaults, device and effective batch."""
    for note in options.notes:
        logger.info("note: %s", note)
    for change in options.changes:
        logger.info("option %s", change)
    device = torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else "CPU"
    logger.info(
        "%s on %s: %d process(es) × batch %d = effective batch %d",
        *(options.name, device, place.world_size, options.datasets["train"].loader.batch_size_per_gpu),
        place.world_size * options.datasets["train"].loader.batch_size_per_gpu,
    )
    if options.num_gpu not in ("auto", 0, place.world_size):
        logger.warning(
            "num_gpu is %d, but %d process(es) run; torchrun --nproc_per_node=%d -m vsr.train … starts as many",
            *(options.num_gpu, place.world_size, options.num_gpu),
        )


def make_run(options: Options, place: Place, folder: Path) -> Run:
    """Opens the data sets and returns what the trainer works with."""
    train = options.datasets["train"]
    dataset, loader = train.open(), train.loader

    def training_batches(iteration: int) -> Iterator[dict[str, Any]]:
        sampler = TrainSampler(
            len(dataset),
            loader.dataset_enlarge_ratio,
            options.manual_seed,
            loader.use_shuffle,
            start=iteration * loader.batch_size_per_gpu * place.world_size,
            rank=place.rank,
            world_size=place.world_size,
        )
        pin = loader.pin_memory and place.device.type == "cuda"
        size, workers, prefetch = loader.batch_size_per_gpu, loader.num_worker_per_gpu, loader.num_prefetch_queue
        return batches(dataset, sampler, size, workers, prefetch, pin)

    validation_sets = [entry for phase, entry in options.datasets.items() if phase.startswith("val")]
    validate = make_validation(options, validation_sets, place) if validation_sets else None
    return Run(place, folder, options.logger, options.val.val_freq, training_batches, validate, options.tree.to_dict())


def make_validation(
    options: Options, validation_sets: list[DatasetOptions], place: Place
) -> Callable[[nn.Module, StopSignals], dict[str, float] | None]:
    """Returns the function with which the trainer measures a network."""
    opened = {entry.name: (entry.open(), entry.loader) for entry in validation_sets}

    def validate(network: nn.Module, stop: StopSignals) -> dict[str, float] | None:
        means: dict[str, float] = {}
        restore = {"network": network_restorer(network, options.scale, place.device)}
        for name, (dataset, loader) in opened.items():
            scores = []
            title = f"validating {name}" if options.val.pbar and place.is_main else None
            for restored in restore_all(restore, dataset, loader.num_worker_per_gpu, title):
                scores += measure(restored, options.val.metrics)
                if stop:
                    return None
            if scores:
                values = average(scores)["network"]["mean"]
                means |= {f"{name}/{metric}": value for metric, value in values.items()}
        return means

    return validate


if __name__ == "__main__":
    exit_cleanly(main)
