"""Weights and training states of an experiment: written atomically, found again, loaded into networks."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vsr.utils.errors import UserError
from vsr.utils.files import write_atomically
from vsr.utils.log import logger
from vsr.utils.weight_files import read

STATE_FORMAT = 1  # to be raised when a change makes older training states unreadable
NUM_NAMED = 4  # parts of a network that a message about weights names


class Found(NamedTuple):
    """A training state and where it was found."""

    file: Path
    state: dict[str, Any]


class Match(NamedTuple):
    """How the names in a weight file fit a network's."""

    matched: list[str]
    missing: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        return f"{len(self.matched)} matched, {len(self.missing)} missing, {len(self.unexpected)} unexpected"


def save(file: Path, content: Mapping[str, Any]) -> None:
    """Writes tensors and plain values.

    Raises:
        UserError: the disk is full or the folder cannot be written to; the former file, if any, is untouched.
    """
    try:
        write_atomically(file, lambda stream: torch.save(dict(content), stream))
    except (OSError, RuntimeError) as error:
        reason = error if isinstance(error, OSError) else error.__context__  # torch hides a full disk behind its own
        if not isinstance(reason, OSError):
            raise  # such as a GPU's error of before, which comes up where its memory is read
        raise UserError(f"{file} could not be written: {reason}. Nothing already there was lost.") from error


def load_weights(network: nn.Module, weights: dict[str, Tensor], file: Path, strict: bool = True) -> Match:
    """Loads parameters into a network; logs and returns how the names fit.

    Args:
        network: receives the weights whose names and shapes it has.
        weights: by name.
        file: where they come from, for messages.
        strict: every name and shape has to fit, in both directions.

    Raises:
        UserError: nothing fits, or with ``strict`` something does not.
    """
    own = network.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    match = Match(
        matched=list(fitting),
        missing=[name for name in own if name not in fitting],
        unexpected=[name for name in weights if name not in fitting],
    )
    if not fitting:
        raise UserError(f"{file} matches nothing in {type(network).__name__} ({match}); is it for another network?")
    if strict and (match.missing or match.unexpected):
        name = next((name for name in match.missing if name in weights), None)
        if name is None:
            reason = "such as " + ", ".join((match.missing + match.unexpected)[:NUM_NAMED])
        else:
            reason = f"{name} is {tuple(weights[name].shape)} in the file, {tuple(own[name].shape)} in the network"
        raise UserError(
            f"{file} does not fit {type(network).__name__}: {match} ({reason}); "
            "check network_g (path.strict_load_g: false starts a training with what fits)"
        )
    network.load_state_dict(fitting, strict=False)
    logger.info("loaded %s into %s: %s%s", file, type(network).__name__, match, _left_out(match, weights, own))
    return match


def _left_out(match: Match, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Returns what was not loaded, "; missing: fusion.* (26); other shapes: …"; nothing where everything fits."""
    resized = [name for name in match.missing if name in weights]
    told = [
        ("missing", _groups([name for name in match.missing if name not in weights], match.matched)),
        ("unexpected", _groups([name for name in match.unexpected if name not in own], match.matched)),
        (
            "other shapes",
            [f"{name} is {tuple(weights[name].shape)}, here {tuple(own[name].shape)}" for name in resized],
        ),
    ]
    return "".join(f"; {what}: {_first(entries)}" for what, entries in told if entries)


def _groups(names: list[str], matched: list[str]) -> list[str]:
    """Returns names by their first module, "fusion.* (26)", or by two where names of the first have matched."""
    groups: dict[str, list[str]] = {}
    partly = {name.split(".")[0] for name in matched}
    for name in names:
        parts = name.split(".")
        groups.setdefault(".".join(parts[: 2 if parts[0] in partly else 1]), []).append(name)
    return [f"{group}.* ({len(own)})" if len(own) > 1 else own[0] for group, own in groups.items()]


def _first(entries: list[str]) -> str:
    more = f" and {len(entries) - NUM_NAMED} more" if len(entries) > NUM_NAMED else ""
    return ", ".join(entries[:NUM_NAMED]) + more


def states(folder: Path) -> list[Path]:
    """Returns an experiment's training states, newest first."""
    found = [file for file in (folder / "training_states").glob("*.state") if file.stem.isdigit()]
    return sorted(found, key=iteration_of, reverse=True)


def newest_state(folder: Path, until: int | None = None) -> Found | None:
    """Returns the newest training state that can be read; a damaged one is skipped with a warning.

    Args:
        folder: the experiment's.
        until: the highest iteration that counts.
    """
    for file in states(folder):
        if until is not None and iteration_of(file) > until:
            continue
        try:
            return Found(file, read(file))
        except UserError as error:
            logger.warning("%s; going back to the state before it", error)
    return None


def forget_old_states(folder: Path, keep: int, keep_every: int | None, needed: int | None = None) -> None:
    """Deletes all but the newest states and, with ``keep_every``, those of its multiples.

    ``needed`` keeps the newest of up to that iteration, too: training may have to go back to it.
    """
    target = next((file for file in states(folder) if needed is not None and iteration_of(file) <= needed), None)
    for file in states(folder)[keep:]:
        if file != target and (keep_every is None or iteration_of(file) % keep_every):
            file.unlink()


def forget_after(folder: Path, iteration: int) -> None:
    """Deletes the states and weights after an iteration that the training went back to."""
    for file in (*states(folder), *_weight_files(folder)):
        if iteration_of(file) > iteration:
            file.unlink()


def iteration_of(file: Path) -> int:
    """Returns the iteration of a numbered state or weight file."""
    return int(file.stem.removeprefix("net_g_"))


def last_iteration(folder: Path) -> int:
    """Returns the highest iteration that an experiment has saved anything of; 0 if nothing."""
    return max((iteration_of(file) for file in (*states(folder), *_weight_files(folder))), default=0)


def newest_weights(folder: Path) -> Path | None:
    """Returns an experiment's weights of the highest iteration, None if there are none."""
    return next(iter(_weight_files(folder)), None)


def forget_old_weights(folder: Path, keep: int | None) -> None:
    """Deletes all but the newest weight files; None keeps all."""
    for file in _weight_files(folder)[keep:] if keep is not None else []:
        file.unlink()


def _weight_files(folder: Path) -> list[Path]:
    """Returns an experiment's numbered weight files, newest first."""
    found = [file for file in (folder / "models").glob("net_g_*.pth") if re.fullmatch(r"net_g_\d+", file.stem)]
    return sorted(found, key=iteration_of, reverse=True)
