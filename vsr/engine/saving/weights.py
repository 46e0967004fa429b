"""Weights that a training starts from, loaded into a network by the prefix of their names."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

import vsr
from vsr.archs.recognize import options_of, spelt
from vsr.archs.weight_names import to_ours
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
    other_shapes: list[str]

    def __str__(self) -> str:
        text = f"{len(self.matched)} matched, {len(self.missing)} missing, {len(self.unexpected)} unexpected"
        return text + (f", {len(self.other_shapes)} of another shape" if self.other_shapes else "")


def from_files(network: nn.Module, path: PathOptions) -> tuple[list[str], dict[str, str]]:
    """Loads ``path.pretrain_network_g`` into a network, file by file; a later one overwrites an earlier one.

    Returns:
        Names of the loaded parameters and buffers; file and SHA-256 of its content, by prefix.

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
        files[prefix] = recorded(file)
    return sorted(loaded), files


def recorded(file: Path) -> str:
    """Returns what a state records of a file of weights: its path and the SHA-256 of its content."""
    return f"{file} sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def from_state(network: nn.Module, found: Found, strict: bool) -> tuple[list[str], dict[str, str]]:
    """Loads a state's weights into a network, as :func:`from_files` does; returns what the state recorded."""
    progress = found.state["progress"]
    match = load_weights(network, found.state["players"]["g"]["network"], found.file, strict)
    return progress["loaded"] or match.matched, progress["weight_files"]


def load_weights(
    network: nn.Module,
    weights: dict[str, Tensor],
    file: Path,
    strict: bool = True,
    prefix: str = "",
    others: Collection[str] = (),
    role: Literal["g", "d"] = "g",
) -> Match:
    """Loads parameters into a network or a part of it; logs and returns how the names fit.

    Args:
        network: receives the weights whose names and shapes it has.
        weights: by name, without the prefix; names of published files are read as ours, see vsr.archs.weight_names.
        file: where they come from, for messages.
        strict: every name and shape of the network has to fit and, without a prefix, every one of the file.
        prefix: the part's name, such as ``spynet``; "" is the whole network.
        others: prefixes of parts that other files are loaded into; they may be missing here.
        role: the network's in the options file: ``network_g`` or ``network_d``; for messages.

    Raises:
        UserError: nothing fits, or with ``strict`` a name does not.
    """
    begin, name = (f"{prefix}.", f"{type(network).__name__}.{prefix}") if prefix else ("", type(network).__name__)
    own = {key: value for key, value in network.state_dict().items() if key.startswith(begin)}
    if not own:
        parts = ", ".join(dict.fromkeys(key.split(".")[0] for key in network.state_dict()))
        raise UserError(f"path.pretrain_network_g: {type(network).__name__} has no part '{prefix}'; it has {parts}")
    weights = {f"{begin}{key}": value for key, value in to_ours(weights).items()}
    fitting = {key: value for key, value in weights.items() if key in own and own[key].shape == value.shape}
    may_lack = tuple(f"{other}." for other in others)
    # torchvision's published files hold no counters, which BatchNorm does not need
    missing = [k for k in own if k not in weights and not k.startswith(may_lack) and not k.endswith(COUNTER)]
    other_shapes = [key for key in weights if key in own and key not in fitting]
    match = Match(list(fitting), missing, [key for key in weights if key not in own], other_shapes)
    left_out = _left_out(match, weights, own)
    if not fitting:
        text = f"{file} matches nothing in {name} ({match}{left_out}); is it for another network? {_held(weights)}"
        raise UserError(text.strip())
    needed = missing or [key for key in other_shapes if not key.startswith(may_lack)]
    if strict and (needed or ((match.unexpected or other_shapes) and not prefix)):
        raise UserError(
            f"{file} does not fit {name}: {match}{left_out}. {_held(weights)}Check network_{role} "
            f"(path.strict_load_{role}: false starts a training with the weights that fit)"
        )
    network.load_state_dict(fitting, strict=False)
    logger.info("loaded %s into %s: %s%s", file, name, match, left_out)
    return match


def metadata(settings: Mapping[str, Any], iteration: int) -> dict[str, str]:
    """Returns the metadata of a ``.safetensors`` file: how to build the network, and the iteration it is of.

    ``settings`` are the resolved options; empty for a network that they do not describe.
    """
    about = {"vsr.version": vsr.__version__, "vsr.iteration": str(iteration)}
    if "network_g" in settings:
        about["vsr.network"] = json.dumps(settings["network_g"])
        about["vsr.scale"] = str(settings.get("scale", GeneralOptions.scale))
        degradation = settings["datasets"]["train"].get("degradation")
        about |= {} if degradation is None else {"vsr.degradation": json.dumps(degradation)}
    return about


def _held(weights: Mapping[str, Tensor]) -> str:
    """Returns a sentence that names the network whose weights these are; "" where it is unknown."""
    options = options_of(weights)
    return "" if options is None else f"The file holds {spelt(options)}. "


def _left_out(match: Match, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Returns the names that do not fit, "; missing: fusion.* (26); other shapes: …"; "" where all fit."""
    partly = {name.split(".")[0] for name in match.matched}  # modules that are named by two parts of their names
    lists: dict[str, dict[str, list[str]]] = {"missing": {}, "unexpected": {}, "other shapes": {}}
    for title, names in (("missing", match.missing), ("unexpected", match.unexpected)):
        for name in names:
            parts = name.split(".")
            lists[title].setdefault(".".join(parts[: 2 if parts[0] in partly else 1]), []).append(name)
    for name in match.other_shapes:
        lists["other shapes"][name] = [f"{name} is {tuple(weights[name].shape)}, here {tuple(own[name].shape)}"]
    text = ""
    for title, groups in lists.items():
        entries = [f"{group}.* ({len(names)})" if len(names) > 1 else names[0] for group, names in groups.items()]
        more = f" and {len(entries) - NUM_NAMED} more" if len(entries) > NUM_NAMED else ""
        text += f"; {title}: {', '.join(entries[:NUM_NAMED])}{more}" if entries else ""
    return text
