"""How a training starts: anew, from weights, or from a state; and when it may not."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vsr.config.options import Options
from vsr.data.stream.loader import Batch, batches, prefetched
from vsr.data.stream.sampler import TrainSampler
from vsr.engine.run import Run, Stage, Validate
from vsr.engine.saving import checkpoints
from vsr.engine.saving.resume import differences, training_set_of
from vsr.engine.saving.weights import from_files, from_state
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

    That is the experiment's newest state with ``auto_resume``, else ``path.resume_state``; ``mode`` is of RESUME_MODES.

    Raises:
        UserError: the experiment exists and nothing says that it should be resumed, or the state does not fit.
    """
    given, weights = options.path.resume_state, checkpoints.newest_weights(folder)
    experiment, exists = f"experiment '{options.name}'", weights is not None or bool(checkpoints.states(folder))
    if mode == "weights" and given is None:
        raise UserError(f"--resume_mode weights needs to know the state: {NEW_START}")
    if exists and (mode == "weights" or not (auto_resume or given)):
        raise UserError(
            f"{experiment} exists in {folder} and would be overwritten: resume it with --auto_resume, choose another "
            "name (--set name=…), or remove the folder"
        )
    found = checkpoints.newest_state(folder) if auto_resume else None
    if found is None and given is not None:
        found = checkpoints.Found(Path(given), read(Path(given)))
    if found is None and exists:
        raise UserError(
            f"{experiment} has no state in {folder}/training_states that can be read: restore one from a copy, or "
            f"start anew from its weights: --set name=NEW --set path.pretrain_network_g={weights or 'FILE'}"
        )
    if found is not None and not ({"settings", "effective_batch"} <= found.state.keys() and found.state["settings"]):
        raise UserError(f"{found.file} is not a training state of vsr; path.pretrain_network_g starts from weights")
    if found is not None and mode != "weights":
        version, saved = found.state.get("format"), 0 if auto_resume else checkpoints.last_iteration(folder)
        if version != checkpoints.STATE_FORMAT:
            raise UserError(
                f"{found.file} was written by another version of vsr (its format is {version}, this version's "
                f"{checkpoints.STATE_FORMAT}): finish with that version, or start anew from its weights: {NEW_START}"
            )
        iteration = found.state["progress"]["iteration"]
        if saved > iteration:  # files that were saved later would pass for this training's
            raise UserError(
                f"{found.file} is of iteration {iteration}, and {experiment} has got to {saved}: resume from there "
                "with --auto_resume, or from here under another name, --set name=NEW"
            )
    if found is not None:
        check_changes(found, options, place, mode)
    return found


def check_changes(found: checkpoints.Found, options: Options, place: Place, mode: str) -> None:
    """Logs how the options differ from a state's; refuses to resume where ``mode`` is ``exact``."""
    file, state = found
    changes, train = differences(state["settings"], options.resolved), options.datasets["train"]
    if state["effective_batch"] != effective_batch(options, place):
        changes.append(f"effective batch: {state['effective_batch']} → {effective_batch(options, place)}")
    if mode != "weights" and state["training_set"] != (samples := training_set_of(train.settings, train.data)):
        changes.append(f"datasets.train: {state['training_set']} → {samples}")
    if changes and mode == "exact":
        listed = "\n  ".join(changes)
        raise UserError(
            f"the options have changed since {file} was written:\n  {listed}\nChange them back, or choose: "
            "--resume_mode new_schedule resumes the state under the new options; a new training from its weights: "
            f"{NEW_START}"
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
    """Returns the trainer with the weights to start from, or with the state to resume, ``found``; see Run.

    Raises:
        UserError: these do not fit, or another process resumes from elsewhere.
    """
    rng.seed(options.manual_seed)
    network = options.network_g()
    logger.info("%s: %s parameters", type(network).__name__, f"{sum(p.numel() for p in network.parameters()):,}")
    loaded, files = [], {}  # a state brings its own
    if found is not None and mode == "weights":
        loaded, files = from_state(network, found, options.path.strict_load_g)
        found = None
    elif found is None:
        loaded, files = from_files(network, options.path)

    train = options.datasets["train"]
    run = Run(
        place=place,
        folder=folder,
        logger=options.logger,
        val_freq=options.val.val_freq,
        batches=partial(training_batches, options, place, train.data, train.loader.batch_size_per_gpu),
        effective_batch=effective_batch(options, place),
        later_stages=later_stages(options, place),
        training_set=training_set_of(train.settings, train.data),
        validate=validate,
        settings=options.resolved.to_dict(),
        results=results,
        loaded=loaded,
        weight_files=files,
        degradation=train.loader.degradation_on("device"),
        num_workers=train.loader.num_worker_per_gpu * place.world_size,
    )
    trainer = options.trainer(network, run, train=options.train)
    if found is not None:
        trainer.load_state_dict(found.state, keep_rates=mode == "exact")
        logger.info("resumed from %s at iteration %d", found.file, trainer.progress.iteration)
    iterations = sorted(set(from_all_ranks([trainer.progress.iteration], place)))
    if len(iterations) > 1:
        raise UserError(
            f"the processes would resume from different iterations, {iterations}: each has to see the same {folder}; "
            "start them in a folder that the machines share"
        )
    return trainer


def later_stages(options: Options, place: Place) -> list[Stage]:
    """Returns the stages of ``datasets.train.stages``."""
    entry, stages = options.datasets["train"], []
    batch_size = entry.loader.batch_size_per_gpu
    for stage, data in zip(entry.loader.stages, entry.stages, strict=True):
        batch_size = stage.batch_size_per_gpu or batch_size
        effective = batch_size * place.world_size * options.train.accumulate
        stages.append(Stage(stage.from_iter, effective, partial(training_batches, options, place, data, batch_size)))
    return stages


def training_batches(options: Options, place: Place, dataset: Any, batch_size: int, start: int) -> Iterator[Batch]:
    """Yields this process's batches, without end, from the sample ``start`` of all processes on."""
    loader, seed = options.datasets["train"].loader, options.manual_seed
    size, ratio = len(dataset), loader.dataset_enlarge_ratio
    sampler = TrainSampler(size, ratio, seed, loader.use_shuffle, start, place.rank, place.world_size)
    stream = batches(
        dataset,
        sampler,
        batch_size=batch_size,
        num_workers=loader.num_worker_per_gpu,
        prefetch=loader.num_prefetch_queue,
        pin_memory=loader.pin_memory and place.device.type == "cuda",
        degradation=loader.degradation_on("loader"),
    )
    return prefetched(stream, loader.prefetch_mode, place.device)


def effective_batch(options: Options, place: Place) -> int:
    """Returns the samples of an optimiser step, over all processes."""
    return options.datasets["train"].loader.batch_size_per_gpu * place.world_size * options.train.accumulate
