"""The state of the random generators. Samples draw from generators of their own; see vsr.data.stream.sampler."""

# PyTorch leaves these functions without types
# pyright: reportUnknownMemberType=false

import random
from typing import Any

import numpy as np
import torch


def seed(number: int) -> None:
    """Seeds Python's, NumPy's and PyTorch's generators."""
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)


def get_state(device: torch.device) -> dict[str, Any]:
    """Returns the state of every generator, as tensors and plain values."""
    version, numbers, gauss = random.getstate()
    legacy: Any = np.random.get_state()
    name, keys, *rest = legacy
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": [version, list(numbers), gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *rest],
    }


def set_state(state: dict[str, Any], device: torch.device) -> None:
    """Sets every generator to a state that :func:`get_state` returned."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
