"""Reads files of weights and of training states: plain tensors and values, with ``weights_only=True``."""

import pickle
import re
import zipfile
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
        reason = re.split(r"\. |\n", str(error).strip())[0] or type(error).__name__
        raise UserError(f"{file} is not a file of weights that torch can read, or is damaged: {reason}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a dictionary of tensors, got {type(content).__name__}")
    return content


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
    entries = [entry for entry in PARAMETER_KEYS if isinstance(content.get(entry), dict)]
    if entries:
        if key is not None and key not in entries:
            raise UserError(f"{file} has no entry '{key}' (path.param_key_g); it has {', '.join(entries)}")
        content = content[key or (prefer if prefer in entries else entries[0])]
    weights = {re.sub(r"^module\.", "", name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f"{file} holds no parameters; a weight file is a dictionary of tensors, maybe under 'params'")
    return weights
