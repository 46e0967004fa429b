"""Weights and training states of an experiment: written atomically, found again, deleted."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from vsr.config.options import LoggerOptions
from vsr.utils.errors import UserError
from vsr.utils.files import write_atomically
from vsr.utils.log import logger
from vsr.utils.weight_files import read

STATE_FORMAT = 2  # to be raised when a change makes older training states unreadable


class Found(NamedTuple):
    """A training state and where it was found."""

    file: Path
    state: dict[str, Any]


def save_safetensors(file: Path, weights: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes weights and texts about them, which other programs read without running code; raises as :func:`save`."""
    # the format wants each tensor contiguous and in memory of its own
    copies = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    _write(file, lambda stream: stream.write(safetensors.torch.save(copies, metadata)))


def save(file: Path, content: Mapping[str, Any]) -> None:
    """Writes tensors and plain values; raises UserError if that fails, and leaves a former file untouched."""
    _write(file, lambda stream: torch.save(dict(content), stream))


def _write(file: Path, write: Callable[[BinaryIO], object]) -> None:
    try:
        write_atomically(file, write)
    except (OSError, RuntimeError) as error:
        reason = error if isinstance(error, OSError) else error.__context__  # torch wraps the error of a full disk
        if not isinstance(reason, OSError):
            raise  # e.g. an asynchronous CUDA error that surfaces here
        raise UserError(f"{file} could not be written: {reason}. Nothing already there was lost.") from error


def states(folder: Path) -> list[Path]:
    """Returns an experiment's training states, newest first."""
    found = [file for file in (folder / "training_states").glob("*.state") if file.stem.isdigit()]
    return sorted(found, key=iteration_of, reverse=True)


def newest_state(folder: Path, until: int | None = None) -> Found | None:
    """Returns the newest training state, of up to iteration ``until``; skips unreadable ones with a warning."""
    for file in states(folder):
        if until is None or iteration_of(file) <= until:
            try:
                return Found(file, read(file))
            except UserError as error:
                logger.warning("%s; going back to the state before it", error)
    return None


def forget_old(folder: Path, keep: LoggerOptions, needed: int | None = None) -> None:
    """Deletes the states and weights that are too old to be kept.

    ``needed`` keeps the newest state of up to that iteration, too: training may have to go back to it.
    """
    target = next((file for file in states(folder) if needed is not None and iteration_of(file) <= needed), None)
    for file in states(folder)[keep.keep_states :]:
        if file != target and (keep.keep_state_every is None or iteration_of(file) % keep.keep_state_every):
            file.unlink()
    iterations = sorted({iteration_of(file) for file in _weight_files(folder)}, reverse=True)
    for file in _weight_files(folder) if keep.keep_weights is not None else []:
        if iteration_of(file) in iterations[keep.keep_weights :]:
            file.unlink()


def forget_after(folder: Path, iteration: int) -> None:
    """Deletes the states and weights after an iteration that the training went back to."""
    for file in (*states(folder), *_weight_files(folder)):
        if iteration_of(file) > iteration:
            file.unlink()


def iteration_of(file: Path) -> int:
    """Returns the iteration of a numbered state or weight file."""
    return int(file.stem.rpartition("_")[2])


def last_iteration(folder: Path) -> int:
    """Returns the highest iteration that an experiment has saved anything of; 0 if nothing."""
    return max((iteration_of(file) for file in (*states(folder), *_weight_files(folder))), default=0)


def weights_file(folder: Path, iteration: int, player: str = "g") -> Path:
    """Returns the file of a player's weights of an iteration."""
    return folder / "models" / f"net_{player}_{iteration}.pth"


def newest_weights(folder: Path) -> Path | None:
    """Returns the weights of ``g`` of an experiment's highest iteration, None if there are none."""
    return next((file for file in _weight_files(folder) if file.match("net_g_*.pth")), None)


def _weight_files(folder: Path) -> list[Path]:
    """Returns an experiment's numbered weight files of all players, newest first."""
    files = (folder / "models").glob("net_*")
    found = [file for file in files if re.fullmatch(r"net_\w+_\d+\.(pth|safetensors)", file.name)]
    return sorted(found, key=iteration_of, reverse=True)
