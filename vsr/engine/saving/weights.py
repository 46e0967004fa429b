"""Weights that a training starts from, loaded into a network by the prefix of their names."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

import vsr
from vsr.config.options import GeneralOptions, PathOptions
from vsr.engine.saving.checkpoints import Found
from vsr.utils.errors import UserError
from vsr.utils.log import logger
from vsr.utils.weight_files import read_weights

NUM_NAMED = 4  # parts of a network that a message names
COUNTER = "num_batches_tracked"


class Match(NamedTuple):
    """How the names in a weight file fit a network's."""

    matched: list[str]
    missing: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        return f"{len(self.matched)} matched, {len(self.missing)} missing, {len(self.unexpected)} unexpected"


class Start(NamedTuple):
    """The weights that a training started from.

    Args:
        loaded: names of the parameters and buffers that were loaded.
        files: file and SHA-256 of its content, by prefix.
    """

    loaded: list[str]
    files: dict[str, str]


def from_files(network: nn.Module, path: PathOptions) -> Start:
    """Loads ``path.pretrain_network_g`` into a network, file by file; a later one overwrites an earlier one.

    Raises:
        UserError: a file cannot be read, or does not fit.
    """
    loaded: set[str] = set()
    files: dict[str, str] = {}
    parts = path.pretrained()
    for prefix, part in parts.items():
        file = Path(part.file)
        weights = read_weights(file, part.key)
        others = [other for other in parts if other != prefix and other.startswith(f"{prefix}." if prefix else "")]
        loaded.update(load_weights(network, weights, file, bool(part.strict), prefix, others).matched)
        files[prefix] = f"{file} sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    return Start(sorted(loaded), files)


def from_state(network: nn.Module, found: Found, strict: bool) -> Start:
    """Loads a state's weights into a network.

    Raises:
        UserError: they do not fit.
    """
    state = found.state
    first = "players" not in state  # format 1, of vsr 0.1.0
    weights, progress = (state["network"], state) if first else (state["players"]["g"]["network"], state["progress"])
    match = load_weights(network, weights, found.file, strict)
    return Start(progress["loaded"] or match.matched, progress.get("weight_files", {}))


def load_weights(
    network: nn.Module,
    weights: dict[str, Tensor],
    file: Path,
    strict: bool = True,
    prefix: str = "",
    others: Collection[str] = (),
) -> Match:
    """Loads parameters into a network or a part of it; logs and returns how the names fit.

    Args:
        network: receives the weights whose names and shapes it has.
        weights: by name, without the prefix.
        file: where they come from, for messages.
        strict: every name and shape of the network has to fit and, without a prefix, every one of the file.
        prefix: the part's name, such as ``spynet``; "" is the whole network.
        others: prefixes of parts that other files are loaded into; they may be missing here.

    Raises:
        UserError: nothing fits, or with ``strict`` a name does not.
    """
    begin, name_of_it = (f"{prefix}.", f"{type(network).__name__}.{prefix}") if prefix else ("", type(network).__name__)
    own = {name: value for name, value in network.state_dict().items() if name.startswith(begin)}
    weights = {f"{begin}{name}": value for name, value in weights.items()}
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    may_lack = tuple(f"{other}." for other in others)
    match = Match(
        matched=list(fitting),
        # torchvision's published files hold no counters, which BatchNorm does not need
        missing=[n for n in own if n not in fitting and not n.startswith(may_lack) and not n.endswith(COUNTER)],
        unexpected=[name for name in weights if name not in fitting],
    )
    if not own:
        parts = ", ".join(dict.fromkeys(name.split(".")[0] for name in network.state_dict()))
        raise UserError(f"path.pretrain_network_g: {type(network).__name__} has no part '{prefix}'; it has {parts}")
    if not fitting:
        raise UserError(f"{file} matches nothing in {name_of_it} ({match}); is it for another network?")
    if strict and (match.missing or (match.unexpected and not prefix)):
        name = next((name for name in match.missing if name in weights), None)
        if name is None:
            reason = "such as " + ", ".join((match.missing + match.unexpected)[:NUM_NAMED])
        else:
            reason = f"{name} is {tuple(weights[name].shape)} in the file, {tuple(own[name].shape)} in the network"
        raise UserError(
            f"{file} does not fit {name_of_it}: {match} ({reason}); "
            "check network_g (path.strict_load_g: false starts a training with the weights that fit)"
        )
    network.load_state_dict(fitting, strict=False)
    logger.info("loaded %s into %s: %s%s", file, name_of_it, match, _left_out(match, weights, own))
    return match


def metadata(settings: Mapping[str, Any], iteration: int) -> dict[str, str]:
    """Returns the metadata of a ``.safetensors`` file: how to build the network, and from which training it is.

    Args:
        settings: the resolved options; empty for a network that they do not describe.
        iteration: the training's.
    """
    about = {"vsr.version": vsr.__version__, "vsr.iteration": str(iteration)}
    if "network_g" in settings:
        about["vsr.network"] = json.dumps(settings["network_g"])
        about["vsr.scale"] = str(settings.get("scale", GeneralOptions.scale))
        degradation = settings["datasets"]["train"].get("degradation")
        about |= {} if degradation is None else {"vsr.degradation": json.dumps(degradation)}
    return about


def _left_out(match: Match, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Returns the names that do not fit, "; missing: fusion.* (26); other shapes: …"; "" where all fit."""
    resized = [name for name in match.missing if name in weights]
    lists = [
        ("missing", _groups([name for name in match.missing if name not in weights], match.matched)),
        ("unexpected", _groups([name for name in match.unexpected if name not in own], match.matched)),
        (
            "other shapes",
            [f"{name} is {tuple(weights[name].shape)}, here {tuple(own[name].shape)}" for name in resized],
        ),
    ]
    return "".join(f"; {title}: {_first(entries)}" for title, entries in lists if entries)


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
