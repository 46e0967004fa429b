"""How a step that goes wrong is recognised, undone and reported."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from vsr.engine.buffers import remember
from vsr.engine.record import Recorder
from vsr.engine.saving import checkpoints
from vsr.engine.saving.state import load_state
from vsr.utils import random_state
from vsr.utils.errors import UserError
from vsr.utils.log import logger

if TYPE_CHECKING:
    from vsr.engine.trainer import Trainer

LESS_MEMORY_TO_TRAIN = """These need less of it: train.checkpointing: true; a lower
datasets.train.batch_size_per_gpu with train.accumulate raised as much; train.amp: bf16."""
LESS_MEMORY_TO_VALIDATE = """Whole frames are restored, one at a time: validate on smaller ones, or take the data set
away (datasets.val: ~) and measure the weights with python -m vsr.test where there is more."""
GO_ON = """{file} is saved:
--auto_resume resumes it, together with --resume_mode new_schedule where train.amp has changed"""
DIVERGED = """training diverged: {steps} steps in a row without a finite loss and gradient; batch and weights are in
{file}. Go on from an earlier state under another name (--set path.resume_state=FILE --set name=NEW --resume_mode
new_schedule) with a lower train.optim_g.lr or train.dcn_lr_mul, or clip with train.clip_grad_norm"""
SMALLEST_SCALE = 2.0**-16  # of a loss in fp16: even sums over many pixels need no smaller one
SIGNS_OF_NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")  # cuBLAS's, cuDNN's


def undoing(buffers: list[Tensor], device: torch.device) -> Callable[[], None]:
    """Returns a function that undoes what a step without an update changes: buffers, and random generators."""
    random, put_back = random_state.get_state(device), remember(buffers)

    def undo() -> None:
        random_state.set_state(random, device)
        put_back()

    return undo


def is_out_of_memory(error: Exception) -> bool:
    """Returns whether an error says that the device's or the computer's memory is used up.

    Our kernels check their arguments, so that a call of PyTorch's from within them fails for nothing but memory; the
    stable ABI passes on that it failed, and not why.
    """
    text = str(error)
    from_our_kernels = "API call failed" in text and '"aten::' in text
    told = isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in text for sign in SIGNS_OF_NO_MEMORY)
    return told or from_our_kernels


def out_of_memory(iteration: int, folder: Path, validating: bool = False) -> UserError:
    """Returns the message with the remedy.

    Args:
        iteration: the present one.
        folder: the experiment's, with the states to resume from.
        validating: rather than training.
    """
    remedy = LESS_MEMORY_TO_VALIDATE if validating else LESS_MEMORY_TO_TRAIN
    states = checkpoints.states(folder)
    saved = GO_ON.format(file=states[0]) if states else "Nothing is saved yet"
    where = "validating after" if validating else "in"
    return UserError(f"out of memory {where} iteration {iteration}. {remedy} {saved}")


def still_scaling(scaler: GradScaler, loss: float) -> bool:
    """Returns whether a step may have gone wrong only because the loss was scaled too high, as in fp16's first steps.

    The scaler halves the scale after each such step until gradients fit.
    """
    return scaler.is_enabled() and math.isfinite(loss) and scaler.get_scale() > SMALLEST_SCALE


def roll_back(trainer: "Trainer", record: Recorder) -> bool:
    """Goes back, if asked to, to the newest state whose offsets were well: with other data, and half their rates.

    Returns:
        Whether it did: the stream of batches then has to start anew.
    """
    if trainer.train.offset_guard != "rollback":
        return False
    folder = trainer.run.folder
    found = checkpoints.newest_state(folder, until=trainer.well_until)
    if found is None:
        logger.warning("there is no state to roll back to; going on")
        return False
    samples, rates = trainer.samples, trainer.base_rates
    load_state(trainer, found.state)
    trainer.samples = samples
    trainer.well_until = trainer.iteration - 1  # runaway offsets at the next look again: go back further
    deformable = [group["deformable"] for group in trainer.optimizer.param_groups]
    trainer.base_rates = [rate / 2 if own else rate for rate, own in zip(rates, deformable, strict=True)]
    record.rewind(trainer.iteration)
    if trainer.run.place.is_main:
        checkpoints.forget_after(folder, trainer.iteration)
    logger.warning(
        "rolled back to %s, %d iterations; deformable convolutions learn half as fast", found.file, trainer.iteration
    )
    return True
