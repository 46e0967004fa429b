"""The loss of a training, ready to be called."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def criterion(loss: Callable[..., Any], device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns what ``train.pixel_opt`` names: a function as it is, a class built, a module moved and never trained."""
    built = loss() if inspect.isclass(getattr(loss, "func", loss)) else loss
    return built.to(device).eval().requires_grad_(False) if isinstance(built, nn.Module) else built
