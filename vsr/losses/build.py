"""Losses from their options, ready to be called."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn


def build_losses(losses: Mapping[str, Callable[..., Any]], device: torch.device) -> dict[str, Callable[..., Any]]:
    """Returns losses by name: functions as they are, classes built, modules moved to the device and frozen."""
    return {name: _built(loss, device) for name, loss in losses.items()}


def _built(loss: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    built = loss() if inspect.isclass(getattr(loss, "func", loss)) else loss
    return built.to(device).eval().requires_grad_(False) if isinstance(built, nn.Module) else built
