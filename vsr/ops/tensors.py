"""What the operators share: the types and memory formats of their tensors."""

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Returns the type that products of a type are summed in."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def layout_of(x: Tensor) -> torch.memory_format:
    """Returns channels_last for a tensor dense in that order alone, else the contiguous format: outputs follow it."""
    is_channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if is_channels_last else torch.contiguous_format
