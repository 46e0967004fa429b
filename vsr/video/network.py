"""Finds the network of ``vsr upscale``: its architecture, its weights, and what they were trained for."""

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

import vsr
from vsr import config
from vsr.archs.build import check_output, spec_of
from vsr.archs.recognize import UnknownNetworkError, recognize
from vsr.config.schema import Report, check_value
from vsr.contracts import Spec
from vsr.engine.saving import checkpoints
from vsr.engine.saving.weights import load_weights
from vsr.registry import Component, names
from vsr.utils.errors import UserError
from vsr.utils.weight_files import read_weights

SHIPPED = Path(vsr.__file__).parent / "pretrained"  # see scripts/ship_network.py
DEFAULT = "edvr_small"
DEMO = Path("experiments/demo")
NUM_FRAMES = 5  # of the window, for a network that reads windows of any length


class Loaded(NamedTuple):
    """A network with its weights."""

    network: nn.Module
    spec: Spec
    weights: Path
    digest: str  # SHA-256 of the weights' file
    degradation: str | None  # that it was trained for, such as "bicubic", where the file names it


def load_network(weights: str | None, options: str | None, overrides: Sequence[str], device: torch.device) -> Loaded:
    """Returns the network of a weight file, of an options file, the one that ships, or the demo's, for evaluation.

    Args:
        weights: a ``.safetensors`` file that describes its network, a published file whose network is recognised,
            weights of the network of ``options``, or the name of a network that ships, such as edvr_small.
        options: an options file; without ``weights``, the newest weights of its training are used.
        overrides: ``a.b=value`` for the options file.
        device: where the network runs.

    Raises:
        UserError: the architecture is unknown, the weights do not fit it, or it does not restore videos.
    """
    key = None
    if options is not None:
        settings = config.load(options, overrides, need="network", missing_data="note")
        build, key = settings.network_g, settings.path.param_key_g
        file = Path(weights) if weights else _trained(Path("experiments") / settings.name, options)
        degradation = None
    else:
        file = _shipped(weights or DEFAULT) or (Path(weights) if weights else _trained(DEMO, None))
        if not file.exists():
            names = ", ".join(sorted(known.stem for known in SHIPPED.glob("*.safetensors")))
            raise UserError(f"--weights {file} does not exist; give a file, or a network that ships: {names}")
        build, degradation = _described(file)
    network = build()
    load_weights(network, read_weights(file, key, prefer="params_ema"), file)
    spec = spec_of(network)
    if spec.task != "super-resolution":
        raise UserError(f"{file}: {type(network).__name__} predicts next frames; vsr upscale needs super-resolution")
    try:
        check_output(network)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    spec = spec._replace(num_frames=spec.num_frames or NUM_FRAMES)
    return Loaded(network.to(device).eval(), spec, file, digest, degradation)


def _shipped(name: str) -> Path | None:
    """Returns the file of a network that ships, if there is one of this name and no other file."""
    file = SHIPPED / f"{name}.safetensors"
    return file if file.is_file() and not Path(name).exists() else None


def _trained(folder: Path, options: str | None) -> Path:
    """Returns the newest weights of a training."""
    newest = checkpoints.newest_weights(folder)
    if newest is None and options is None:
        text = "no network: give --weights FILE, or train the demo's once with `bash scripts/demo.sh`"
        raise UserError(f"{text} ({folder}/models has no weights)")
    if newest is None:
        raise UserError(f"no weights in {folder}/models: train {options} first, or name a file with --weights FILE")
    described = newest.with_suffix(".safetensors")
    return described if options is None and described.is_file() else newest


def _described(file: Path) -> tuple["partial[Any]", str | None]:
    """Returns the network that a weight file describes, or is recognised as, and the degradation that it names."""
    about = _metadata(file)
    if "vsr.network" in about:
        settings = json.loads(about["vsr.network"])
    else:
        try:
            settings = recognize(read_weights(file, prefer="params_ema"), file).options
        except UnknownNetworkError as error:
            raise UserError(f"{error}; give the options file of its training with -opt FILE") from None
    if settings["type"] not in names("arch"):
        raise UserError(
            f"{file} holds {settings['type']}, a network of your own: give -opt FILE, the options file whose `imports` "
            "names its module"
        )
    report = Report({"scale": int(about.get("vsr.scale", 4)), "network_g": settings})
    build = check_value(settings, Annotated[partial[Any], Component("arch")], "network_g", report)
    if build is None or report.mistakes:
        mistakes = "; ".join(report.mistakes)
        raise UserError(
            f"{file} describes a network of vsr {about.get('vsr.version', '?')} that is unknown: {mistakes}"
        )
    degradation = json.loads(about.get("vsr.degradation", "null"))
    return build, degradation["type"] if isinstance(degradation, dict) else degradation


def _metadata(file: Path) -> dict[str, str]:
    if file.suffix != ".safetensors" or not file.is_file():
        return {}
    try:
        with safe_open(file, "pt") as content:
            return content.metadata() or {}
    except SafetensorError:
        return {}  # reading its weights says what is wrong
