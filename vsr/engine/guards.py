"""How a step that goes wrong is recognised, undone and reported."""

import math
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from vsr.engine.options import TrainOptions
from vsr.engine.saving import checkpoints
from vsr.ops import ModulatedDeformConvPack
from vsr.utils.distributed import Place, over_ranks
from vsr.utils.errors import UserError
from vsr.utils.log import logger

TO_TRAIN = "train.checkpointing: true; a smaller batch with larger train.accumulate; train.amp: bf16"
TO_VALIDATE = "smaller frames, or no validation (datasets.val: ~) and python -m vsr.test on a larger machine"
DIVERGED = """training diverged: {steps} steps in a row without a finite loss and gradient; batch and weights are in
{file}. Go on from an earlier state under another name (--set path.resume_state=FILE --set name=NEW --resume_mode
new_schedule) with a lower train.optim_g.lr, or clip with train.clip_grad_norm"""
OUT_OF_MEMORY_TEXTS = ("DefaultCPUAllocator", "not enough memory", "out of memory")
CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, of allocations outside PyTorch's allocator

Answer = Literal["ok", "skip", "rollback"]


class OffsetGuard:
    """Watches the offsets of deformable convolutions: when they run away, alignment and then the training is lost.

    The mean absolute offset is what EDVR's authors watched; above 50 to 100 pixels it "must be meaningless"
    (https://github.com/xinntao/EDVR/issues/22).

    All ranks see the largest offsets of any rank. ``ok_until`` is the last iteration whose offsets were checked and ok.
    """

    def __init__(self, network: nn.Module, train: TrainOptions, place: Place) -> None:
        self.layers = {n: m for n, m in network.named_modules() if isinstance(m, ModulatedDeformConvPack)}
        self.train, self.place, self.ok_until = train, place, 0

    def is_due(self, iteration: int) -> bool:
        """Returns whether an iteration's offsets are checked."""
        freq = self.train.offset_freq
        return self.train.offset_guard != "off" and freq > 0 and iteration % freq == 0

    def watch(self, iteration: int) -> None:
        """Makes the deformable convolutions record the offsets of an iteration that is checked."""
        for layer in self.layers.values():
            layer.track_offsets = self.is_due(iteration)

    def offsets(self) -> list[tuple[str, float, float]]:
        """Returns each layer's name, mean and maximum absolute offset, in pixels; every rank has to call it."""
        if not self.layers:
            return []
        magnitudes = torch.stack([layer.get_buffer("offset_magnitude") for layer in self.layers.values()])
        values = over_ranks(magnitudes, self.place, "max").tolist()
        return [(name, *value) for name, value in zip(self.layers, values, strict=True)]

    def answer(self, iteration: int) -> Answer:
        """Returns what to do with an iteration's step, and warns of a layer above the limit. NaN is above it."""
        if not self.is_due(iteration):
            return "ok"
        means = {layer: mean for layer, mean, _ in self.offsets()}
        worst = max(means, key=lambda layer: math.inf if math.isnan(means[layer]) else means[layer], default=None)
        if worst is None or means[worst] <= self.train.offset_limit:
            self.ok_until = iteration
            return "ok"
        limit, guard = self.train.offset_limit, self.train.offset_guard
        text = (
            "iteration %d: mean offset %.0f pixels in %s, above offset_limit %g: alignment is lost (offset_guard: %s)"
        )
        logger.warning(text, iteration, means[worst], worst, limit, guard)
        return "ok" if guard == "warn" else guard  # type: ignore[return-value]  # not off


def is_out_of_memory(error: Exception, device: torch.device) -> bool:
    """Returns whether an error says that memory ran out.

    Extensions such as our kernels pass on an allocation's failure as a RuntimeError; PyTorch's allocator counts them.
    """
    is_counted = device.type == "cuda" and torch.cuda.memory_stats(device).get("num_ooms", 0) > 0
    return is_counted or says_out_of_memory(error)


def says_out_of_memory(error: Exception) -> bool:
    """Returns whether an error's type, code or text says that memory ran out; on CPUs PyTorch's has only the text."""
    code = getattr(error, "error_code", None) if isinstance(error, torch.AcceleratorError) else None
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or code == CUDA_OUT_OF_MEMORY:
        return True
    return any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)


def out_of_memory(iteration: int, folder: Path, validating: bool = False) -> UserError:
    """Returns the message with the remedy; ``folder`` is the experiment's, with the states to resume from."""
    states = checkpoints.states(folder)
    saved = f"{states[0]} is saved: --auto_resume resumes from it" if states else "No state is saved yet"
    if states and not validating:
        saved += ", with --resume_mode new_schedule where train.amp has changed"
    where, remedy = ("while validating after", TO_VALIDATE) if validating else ("in", TO_TRAIN)
    return UserError(f"Out of memory {where} iteration {iteration}. Try: {remedy}. {saved}.")
