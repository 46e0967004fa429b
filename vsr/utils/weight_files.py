"""Reads weights and training states: ``.safetensors``, or ``torch.save``'s files with ``weights_only=True``."""

# safetensors leaves parts of its functions without types
# pyright: reportUnknownVariableType=false

import pickle
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from vsr.utils.errors import UserError


def read(file: Path) -> dict[str, Any]:
    """Returns the content of a ``.safetensors`` file, or of one that ``torch.save`` wrote, on the CPU.

    Only tensors and plain values are loaded: no file can run code.

    Raises:
        UserError: the file does not exist, is damaged, or holds something else.
    """
    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        if zipfile.is_zipfile(file) and (damaged := zipfile.ZipFile(file).testzip()):
            raise ValueError(f"the checksum of {damaged} is wrong")  # torch.load does not compare it
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{file} does not exist") from None
    except Exception as error:  # on damaged files torch raises IndexError, struct.error and nine other kinds
        raise UserError(f"{file} {_reason(file, error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a dictionary of tensors, got {type(content).__name__}")
    return content  # pyright: ignore[reportUnknownVariableType]  # read_weights checks the names


def read_weights(file: Path, key: str | None = None, prefer: str = "params") -> dict[str, Tensor]:
    """Returns the parameters in a weight file by name; see :func:`read_entry`."""
    return read_entry(file, key, prefer)[1]


def read_entry(file: Path, key: str | None = None, prefer: str = "params") -> tuple[str | None, dict[str, Tensor]]:
    """Returns an entry's name, None if the file has no entries, and its parameters by name.

    Args:
        file: ``.safetensors``, BasicSR's ``.pth`` (entries ``params``, ``params_ema``), mmagic's (its ``generator`` is
            read as ``params``, ``generator_ema`` as ``params_ema``; ``discriminator`` keeps its name), or the
            parameters alone.
        key: the entry to return; None returns the one that is there.
        prefer: the entry to return if there are several and ``key`` is None.

    Raises:
        UserError: the file cannot be read, holds no parameters, or lacks the entry.
    """
    content = read(file)
    if {"settings", "effective_batch"} <= content.keys():
        raise UserError(f"{file} is a training state; its weights are in models/net_g_….pth")
    entries: dict[str, dict[Any, Any]] = {str(k): v for k, v in content.items() if isinstance(v, dict)}
    entries |= _of_mmagic(entries.get("state_dict", {}))
    entry = next(
        (name for name in ([key] if key else [prefer, "params", "params_ema", "state_dict"]) if name in entries), None
    )
    values: dict[Any, Any] = content if entry is None else entries[entry]
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    if not tensors:
        listed, has_others = ", ".join(entries), entry is None and len(entries) > 0
        if key and has_others:
            raise UserError(f"{file} has no entry '{key}' (path.param_key_g); it has {listed}")
        remedy = f"it has the entries {listed}: path.param_key_g names one" if has_others else "is it empty?"
        raise UserError(f"{file} holds no parameters (tensors by name, alone or in an entry 'params'); {remedy}")
    if others := [name for name in tensors if not isinstance(name, str)]:
        raise UserError(f"{file} holds a tensor named {others[0]!r}; expected the names of parameters")
    return entry, {name.removeprefix("module."): value for name, value in tensors.items()}


def _of_mmagic(weights: dict[Any, Any]) -> dict[str, dict[Any, Any]]:
    """Returns the entries that a file of mmagic would have in BasicSR's form."""
    entries: dict[str, dict[Any, Any]] = {}
    networks = {"params": "generator.", "params_ema": "generator_ema.", "discriminator": "discriminator."}
    for entry, prefix in networks.items():
        own = {str(k).removeprefix(prefix): v for k, v in weights.items() if str(k).startswith(prefix)}
        entries |= {entry: own} if own else {}
    return entries


def _reason(file: Path, error: Exception) -> str:
    """Returns why a file could not be read."""
    beginning = b""
    with suppress(OSError), file.open("rb") as stream:
        beginning = stream.read(200).lstrip()
    if beginning.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer: fetch the file with git lfs pull"
    if beginning.startswith(b"<"):
        return "is a web page: download the weights themselves"
    if re.fullmatch(rb"[\t\n\r -~]+", beginning):
        return "is a text file, not weights"
    if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(file):
        names = ", ".join(torch.serialization.get_unsafe_globals_in_checkpoint(file))
        return f"holds Python objects ({names}), which are not loaded: save the network's state_dict() alone"
    reason = re.split(r"\. |\n", str(error).strip())[0] or type(error).__name__
    return f"is damaged, or not a file of weights: {reason}"
