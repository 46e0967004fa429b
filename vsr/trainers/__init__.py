"""The training loop, its variants, and what they are built from."""

from vsr.trainers.freeze import FreezeTrainer
from vsr.trainers.next_frame import NextFrameTrainer
from vsr.trainers.optimizers import adam, adamw
from vsr.trainers.schedules import cosine_annealing_restart, multi_step_restart
from vsr.trainers.scratch import ScratchTrainer

__all__ = [
    "FreezeTrainer",
    "NextFrameTrainer",
    "ScratchTrainer",
    "adam",
    "adamw",
    "cosine_annealing_restart",
    "multi_step_restart",
]
