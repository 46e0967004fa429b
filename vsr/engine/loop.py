"""The training loop."""

import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing

from torch import Tensor

from vsr.data.stream.loader import Batch, grouped
from vsr.engine.record import Recorder
from vsr.engine.run import Validation
from vsr.engine.saving import checkpoints
from vsr.engine.step import enter_phase, make_step, set_learning_rate
from vsr.engine.trainer import Trainer
from vsr.utils.allocator import peak_memory
from vsr.utils.distributed import any_rank, over_ranks
from vsr.utils.log import logger
from vsr.utils.signals import StopSignals


class Clock:
    """Measures steps per second, and the share of the time spent waiting for data."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Starts measuring anew."""
        self.since, self.waited, self.steps = time.perf_counter(), 0.0, 0

    def wait_for(self, stream: Iterator[list[Batch]]) -> list[Batch]:
        """Returns the next batches, timing the wait for them."""
        before = time.perf_counter()
        batches = next(stream)
        self.waited += time.perf_counter() - before
        self.steps += 1
        return batches

    def speed_and_wait(self) -> tuple[float, float]:
        """Returns steps per second and the waiting share since the last start or call, and starts anew."""
        elapsed, waited, steps = time.perf_counter() - self.since, self.waited, self.steps
        self.start()
        return steps / elapsed, waited / elapsed


def fit(trainer: Trainer) -> None:
    """Trains from the current iteration to ``total_iter``: steps, logs, validates and saves.

    Raises:
        UserError: training diverged, memory ran out, or a frame cannot be read.
        SystemExit: stopped by Ctrl-C (code 130), or by another of ``STOPPING`` (code 0), after saving a state.
    """
    trainer.check_start()
    total, run, progress = trainer.train.total_iter, trainer.run, trainer.progress
    logs, place = run.logger, run.place
    with (
        StopSignals() as stop,
        Recorder(run.folder, progress.iteration, total, logs, place.is_main, run.num_workers) as record,
    ):
        if validation_is_due(trainer):  # the state was saved between a step and its validation
            record.rewind(progress.iteration, validation=True)
            if validate(trainer, record, stop) is None:
                stop.end_program(progress.iteration)
            trainer.save(may_fail=progress.iteration < total)
        if progress.iteration >= total:
            logger.info("nothing to train: this is iteration %d, train.total_iter is %d", progress.iteration, total)
            if place.is_main and not checkpoints.weights_file(trainer.run.folder, progress.iteration).exists():
                trainer.save_weights()  # a stop came between the state and them
        clock, stream = Clock(), step_batches(trainer)
        unwarned = list(trainer.players.values()) if place.world_size == 1 else []
        try:
            while progress.iteration < total:
                batches = clock.wait_for(stream)
                progress.iteration += 1
                progress.samples += trainer.run.stage_of(progress.iteration).effective_batch
                with trainer.saved_on_mistake(can_save=False):  # it may end within an update
                    enter_phase(trainer, batches[0])
                    set_learning_rate(trainer)
                    output, last, answer, stopped = make_step(trainer, batches, stop)
                unwarned = [player for player in unwarned if not player.warn_of_unused()]
                record.bar.update(progress.iteration - record.bar.n)
                if answer == "rollback" and trainer.roll_back():
                    record.rewind(progress.iteration)
                    stream.close()
                    stream = step_batches(trainer)
                    continue
                if progress.iteration % logs.print_freq == 0:
                    log(trainer, record, output, last, clock)
                saving_is_due = progress.iteration % logs.save_checkpoint_freq == 0 or progress.iteration == total
                if validation_is_due(trainer) and not stopped:
                    if saving_is_due:
                        trainer.save(may_fail=True)  # whole frames need more memory than crops: validation may fail
                    validate(trainer, record, stop)
                    stopped = any_rank(bool(stop), place)
                    clock.start()
                if saving_is_due or stopped:
                    trainer.save(may_fail=progress.iteration < total and not stopped)
                if stopped:
                    stop.end_program(progress.iteration)
                if progress.iteration == total:
                    file = checkpoints.weights_file(trainer.run.folder, total)
                    logger.info("finished: %d iterations, weights in %s", total, file)
        finally:
            stream.close()  # an error's traceback would keep it, and Python, at its end, wait for its workers
            for player in trainer.players.values():
                player.model = None  # DDP has to go before the processes part


def step_batches(trainer: Trainer) -> Generator[list[Batch]]:
    """Yields the batches of each step from here on, those of a later stage from its first iteration on."""
    run, progress = trainer.run, trainer.progress
    with trainer.saved_on_mistake():
        while True:
            stage = run.stage_of(progress.iteration + 1)
            with closing(grouped(stage.batches(progress.samples), trainer.train.accumulate)) as stream:
                while run.stage_of(progress.iteration + 1) == stage:
                    yield next(stream)
            logger.info("stage from iteration %d on: effective batch %d", *run.stage_of(progress.iteration + 1)[:2])


def validate(trainer: Trainer, record: Recorder, stop: StopSignals) -> Validation | None:
    """Validates; where a frame cannot be read, or memory runs out, saves a state and names the remedy."""
    with trainer.saved_on_mistake(validating=True):
        return trainer.validate(record, stop)


def validation_is_due(trainer: Trainer) -> bool:
    """Returns whether this iteration is to be validated and has not been yet."""
    iteration = trainer.progress.iteration
    if trainer.run.validate is None or iteration == trainer.progress.last_validation:
        return False
    at_freq = trainer.run.val_freq is not None and iteration % trainer.run.val_freq == 0
    return at_freq or iteration == trainer.train.total_iter


def log(trainer: Trainer, record: Recorder, output: Tensor, batch: Batch, clock: Clock) -> None:
    """Writes a line: mean loss since the last one, PSNR of this batch, rate, speed, wait for data, time to go."""
    place, progress = trainer.run.place, trainer.progress
    losses = {name: value.item() / progress.loss_steps for name, value in trainer.mean_losses().items()}
    loss = losses.pop("", math.nan)
    progress.losses, progress.loss_steps = {}, 0
    frame, truth = trainer.frames(output.float(), batch)
    error = over_ranks((frame.clamp(0, 1) - truth).square().mean(), place, "mean").item()
    num_values = output.numel() * place.world_size * trainer.train.accumulate if trainer.sums else 1
    values = {"loss": loss, "loss_per_value": loss / num_values, "psnr": -10 * math.log10(max(error, 1e-12))}
    player = trainer.players["g"]
    values["lr"] = player.optimizer.param_groups[player.main_group]["lr"]
    losses = losses if len(losses) > 1 else {}
    rows = values | {f"loss/{name}": value for name, value in losses.items()}
    record.scalars(progress.iteration, {f"train/{name}": value for name, value in rows.items()})
    if trainer.guard.is_due(progress.iteration):
        for layer, mean, maximum in trainer.guard.offsets():
            record.curves(progress.iteration, {f"offsets_mean/{layer}": mean, f"offsets_max/{layer}": maximum})
    memory = peak_memory(place.device)
    record.line(progress.iteration, values, *clock.speed_and_wait(), memory, losses)
