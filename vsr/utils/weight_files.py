"""Reads files of weights and of training states: plain tensors and values, with ``weights_only=True``."""

import pickle
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsr.utils.errors import UserError

PARAMETER_KEYS = ("params", "params_ema")


def read(file: Path) -> dict[str, Any]:
    """Returns a dictionary of tensors and plain values that ``torch.save`` wrote, on the CPU.

    Raises:
        UserError: the file does not exist, or is not such a file.
    """
    try:
        if zipfile.is_zipfile(file) and (damaged := zipfile.ZipFile(file).testzip()):
            raise ValueError(f"the checksum of {damaged} is wrong")  # torch.load does not look
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{file} does not exist") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} {_what_it_is(file, error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a dictionary of tensors, got {type(content).__name__}")
    return content  # pyright: ignore[reportUnknownVariableType]  # its names are looked at below


def read_weights(file: Path, key: str | None = None, prefer: str = "params") -> dict[str, Tensor]:
    """Returns the parameters in a weight file by name.

    Args:
        file: BasicSR's form (``params``, ``params_ema``), or the parameters themselves.
        key: the entry to take; None takes what there is.
        prefer: the entry taken if there are several and ``key`` does not say.

    Raises:
        UserError: it is no such file, or lacks the entry.
    """
    content = read(file)
    if {"network", "iteration"} <= content.keys():
        raise UserError(f"{file} is a training state, not weights, which lie beside it in models/net_g_….pth")
    entries = [str(entry) for entry, value in content.items() if isinstance(value, dict)]
    ours = [entry for entry in PARAMETER_KEYS if entry in entries]
    is_bare = any(isinstance(value, Tensor) for value in content.values())
    if key is not None and key not in entries and entries and not is_bare:
        raise UserError(f"{file} has no entry '{key}' (path.param_key_g); it has {', '.join(entries)}")
    if ours or key in entries:
        content = content[key or (prefer if prefer in ours else ours[0])]
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    for name, value in tensors.items():
        if not isinstance(name, str):
            raise UserError(f"{file} holds a tensor under {name!r}; expected tensors by the names of parameters")
        if (problem := _unreadable(value)) is not None:
            raise UserError(f"{file}: {name} is {problem}")
    weights = {re.sub(r"^module\.", "", name): value for name, value in tensors.items()}
    if not weights:
        others = entries and key is None and not ours
        remedy = f"it has the entries {', '.join(entries)}: path.param_key_g names one" if others else "is it empty?"
        raise UserError(f"{file} holds no parameters, which are tensors by name, maybe under 'params'; {remedy}")
    return weights


def _unreadable(tensor: Tensor) -> str | None:
    """Returns why a tensor cannot be copied into a parameter, and what to do."""
    if tensor.is_nested:
        return "a nested tensor; save tensors of one size each"
    if tensor.layout != torch.strided:
        return "a sparse tensor; save its to_dense()"
    if tensor.is_quantized:
        return "a quantized tensor; save its dequantize()"
    if tensor.is_meta:
        return "a tensor without values (on the device 'meta'); save the network with its weights loaded"
    return None


def _what_it_is(file: Path, error: Exception) -> str:
    """Returns what a file is that torch did not load for this reason."""
    beginning = b""
    with suppress(OSError), file.open("rb") as stream:
        beginning = stream.read(200).lstrip()
    if beginning.startswith(b"version https://git-lfs"):
        return "is only Git LFS's pointer to a file: git lfs pull fetches the file itself"
    if beginning.startswith(b"<"):
        return "is a web page, not a file of weights: download the file itself"
    if re.fullmatch(rb"[\t\n\r -~]+", beginning):
        return "is a text file, not a file of weights"
    if found := re.search(r"Unsupported (?:global|class).*?([\w.]+) was not", str(error)):
        return f"holds Python objects ({found[1]}), which are not loaded: save the network's state_dict() alone"
    reason = re.split(r"\. |\n", str(error).strip())[0] or type(error).__name__
    return f"is not a file of weights that torch can read, or is damaged: {reason}"
