"""Losses from their options, ready to be called."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def built_loss(loss: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Returns a loss: a function as it is, a class built; a module is moved to the device and frozen."""
    built = loss() if inspect.isclass(getattr(loss, "func", loss)) else loss
    return built.to(device).eval().requires_grad_(False) if isinstance(built, nn.Module) else built
