"""How a training starts: anew, from weights, or from a state; and when it may not."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vsr.config.options import Options
from vsr.data.stream.loader import Batch, batches
from vsr.data.stream.prefetch import prefetched
from vsr.data.stream.sampler import TrainSampler
from vsr.engine.run import Run, Validate
from vsr.engine.saving import checkpoints
from vsr.engine.saving.resume import check_training_set, differences, training_set_of
from vsr.engine.saving.weights import Start, from_files, from_state
from vsr.engine.trainer import Trainer
from vsr.utils import rng
from vsr.utils.distributed import Place, from_all_ranks
from vsr.utils.errors import UserError
from vsr.utils.log import logger
from vsr.utils.weight_files import read

RESUME_MODES = ("exact", "new_schedule", "weights")
NEW_START = "--resume_mode weights --set path.resume_state=FILE --set name=NEW"


def find_state(options: Options, folder: Path, place: Place, auto_resume: bool, mode: str) -> checkpoints.Found | None:
    """Returns the state to resume from; None to start anew.

    Args:
        options: with ``path.resume_state``, perhaps.
        folder: the experiment's.
        place: device and rank.
        auto_resume: whether the experiment's newest state comes first.
        mode: one of RESUME_MODES.

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
    if found is not None:
        check_state(found, options, folder, place, auto_resume, mode)
    return found


def check_state(
    found: checkpoints.Found, options: Options, folder: Path, place: Place, auto_resume: bool, mode: str
) -> None:
    """Checks that a state may be resumed under these options, and logs the changes; arguments as in find_state.

    Raises:
        UserError: it is no state, another version's, an older one of the experiment, or made under other options.
    """
    file, state = found
    if not {"settings", "effective_batch"} <= state.keys() or not state["settings"]:
        raise UserError(f"{file} is not a training state of vsr; path.pretrain_network_g starts from weights")
    if mode != "weights":
        if state.get("format") != checkpoints.STATE_FORMAT:
            raise UserError(
                f"{file} was written by another version of vsr (its format is {state.get('format')}, this version's "
                f"{checkpoints.STATE_FORMAT}): finish with that version, or start anew from its weights: {NEW_START}"
            )
        iteration, saved = state["progress"]["iteration"], checkpoints.last_iteration(folder)
        if not auto_resume and saved > iteration:  # files that were saved later would pass for this training's
            raise UserError(
                f"{file} is of iteration {iteration}, and experiment '{options.name}' has got to {saved}: resume "
                "from there with --auto_resume, or from here under another name, --set name=NEW"
            )
    changes = differences(state["settings"], options.resolved)
    if state["effective_batch"] != effective_batch(options, place):
        changes.append(f"effective batch: {state['effective_batch']} → {effective_batch(options, place)}")
    if changes and mode == "exact":
        raise UserError(
            f"the options have changed since {file} was written:\n"
            + "\n".join(f"  {change}" for change in changes)
            + "\nChange them back, or choose: --resume_mode new_schedule resumes the state under the "
            f"new options; a new training from its weights: {NEW_START}"
        )
    for change in changes:
        logger.info("changed option %s", change)


def make_trainer(
    options: Options,
    place: Place,
    folder: Path,
    found: checkpoints.Found | None,
    mode: str,
    validate: Validate | None = None,
    results: Path | None = None,
) -> Trainer:
    """Returns the trainer with the weights to start from, or with the state to resume.

    Args:
        options: the checked options.
        place: device and rank.
        folder: the experiment's.
        found: the state; None starts anew.
        mode: one of RESUME_MODES.
        validate: see Run.
        results: see Run.

    Raises:
        UserError: these do not fit, or another process resumes from elsewhere.
    """
    rng.seed(options.manual_seed)
    network = options.network_g()
    logger.info("%s: %s parameters", type(network).__name__, f"{sum(p.numel() for p in network.parameters()):,}")
    start = Start([], {})  # a state brings its own
    if found is not None and mode == "weights":
        start = from_state(network, found, options.path.strict_load_g)
        found = None
    elif found is None:
        start = from_files(network, options.path)

    train = options.datasets["train"]
    dataset = train.data
    run = Run(
        place=place,
        folder=folder,
        logger=options.logger,
        val_freq=options.val.val_freq,
        batches=partial(training_batches, options, place, dataset),
        effective_batch=effective_batch(options, place),
        training_set=training_set_of(train.settings, dataset),
        validate=validate,
        settings=options.resolved,
        results=results,
        loaded=start.loaded,
        weight_files=start.files,
        degradation=train.loader.degradation,
    )
    if found is not None:
        check_training_set(found.file, found.state["training_set"], run.training_set, mode != "exact")
    trainer = options.trainer(network, run, train=options.train)
    if found is not None:
        trainer.load_state_dict(found.state, keep_rates=mode == "exact")
        logger.info("resumed from %s at iteration %d", found.file, trainer.progress.iteration)
    iterations = from_all_ranks([trainer.progress.iteration], place)
    if len(set(iterations)) > 1:
        raise UserError(
            f"the processes would resume from different iterations, {sorted(set(iterations))}: each has to see the "
            f"same {folder}; start them in a folder that the machines share"
        )
    return trainer


def training_batches(options: Options, place: Place, dataset: Any, start: int) -> Iterator[Batch]:
    """Yields this process's batches, without end, from the sample ``start`` of all processes on."""
    loader = options.datasets["train"].loader
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
    )
    return prefetched(stream, loader.prefetch_mode, place.device)


def effective_batch(options: Options, place: Place) -> int:
    """Returns the samples of an optimiser step, over all processes."""
    return options.datasets["train"].loader.batch_size_per_gpu * place.world_size * options.train.accumulate
