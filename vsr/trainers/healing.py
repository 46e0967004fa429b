"""What is said and kept when a step goes wrong."""

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from vsr.data.batch import Batch
from vsr.trainers import checkpoint
from vsr.utils import random_state
from vsr.utils.errors import UserError
from vsr.utils.log import logger

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


def remember(buffers: list[Tensor], device: torch.device) -> Callable[[], None]:
    """Returns a function that puts back what a step without an update changes: buffers, and random generators."""
    random, former = random_state.get_state(device), [buffer.clone() for buffer in buffers]

    def undo() -> None:
        random_state.set_state(random, device)
        for buffer, before in zip(buffers, former, strict=True):
            buffer.copy_(before)

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
    states = checkpoint.states(folder)
    saved = GO_ON.format(file=states[0]) if states else "Nothing is saved yet"
    where = "validating after" if validating else "in"
    return UserError(f"out of memory {where} iteration {iteration}. {remedy} {saved}")


@contextmanager
def out_of_memory_is_told(iteration: int, folder: Path) -> Generator[None]:
    """Turns running out of memory in a step into the message with the remedy."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(iteration, folder) from error
        raise


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


def diverged(file: Path, steps: int, batches: list[Batch], network: nn.Module) -> UserError:
    """Returns the message that ends a training, after saving what the last step was made of."""
    checkpoint.save(file, {"batches": batches, "network": network.state_dict()})
    return UserError(DIVERGED.format(steps=steps, file=file))
