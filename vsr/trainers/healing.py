"""What is said and kept when a step goes wrong."""

import math
import os
from pathlib import Path

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler

from vsr.data.batch import Batch
from vsr.trainers import checkpoint
from vsr.utils.errors import UserError
from vsr.utils.log import logger

OUT_OF_MEMORY = """out of memory in iteration {iteration}. These need less of it: train.checkpointing: true; a lower
datasets.train.batch_size_per_gpu with train.accumulate raised as much; train.amp: bf16. """
GO_ON = """{file} is saved:
--auto_resume goes on, where train.amp has changed together with --resume_mode new_schedule"""
DIVERGED = """training diverged: {steps} steps in a row without a finite loss and gradient; batch and weights are in
{file}. Go on from an earlier state under another name (--set path.resume_state=FILE --set name=NEW --resume_mode
new_schedule) with a lower train.optim_g.lr or train.dcn_lr_mul, or clip with train.clip_grad_norm"""
SMALLEST_SCALE = 2.0**-16  # of a loss in fp16: even sums over many pixels need no smaller one


def is_out_of_memory(error: RuntimeError) -> bool:
    """Returns whether an error says that the device's or the computer's memory is used up.

    Our kernels check their arguments, so that a call of PyTorch's from within them fails for nothing but memory; the
    stable ABI passes on that it failed, and not why.
    """
    text = str(error)
    from_our_kernels = "API call failed" in text and '"aten::' in text
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text or from_our_kernels


def out_of_memory(iteration: int, states: list[Path]) -> UserError:
    """Returns the message with the remedy.

    Args:
        iteration: the last one that was completed.
        states: the training's, newest first.
    """
    text = OUT_OF_MEMORY.format(iteration=iteration + 1)
    return UserError(text + (GO_ON.format(file=states[0]) if states else "Nothing is saved yet"))


def still_scaling(scaler: GradScaler, loss: float) -> bool:
    """Returns whether a step may have gone wrong only because the loss was scaled too high, as in fp16's first steps.

    The scaler halves the scale after each such step until gradients fit.
    """
    return scaler.is_enabled() and math.isfinite(loss) and scaler.get_scale() > SMALLEST_SCALE


def tell_bad_step(iteration: int, in_a_row: int, batches: list[Batch], loss: float, norm: float) -> None:
    """Warns of a step that was skipped because its loss or gradient is not finite."""
    keys = ", ".join(str(key) for batch in batches for key in batch.get("key", []))
    logger.warning(
        "iteration %d skipped: loss %g, gradient norm %g on %s (%d in a row)", iteration, loss, norm, keys, in_a_row
    )


def diverged(folder: Path, iteration: int, steps: int, batches: list[Batch], network: nn.Module) -> UserError:
    """Returns the message that ends a training, after saving what the last step was made of."""
    file = folder / f"bad_batch_{iteration}_rank{os.environ.get('RANK', 0)}.pth"
    checkpoint.save(file, {"batches": batches, "network": network.state_dict()})
    return UserError(DIVERGED.format(steps=steps, file=file))
