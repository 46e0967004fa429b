"""Dtypes and memory formats shared by the operators."""

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype in which products of ``dtype`` are accumulated."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def layout_of(x: Tensor) -> torch.memory_format:
    """Returns the memory format of outputs: channels_last only if ``x`` has it and is not contiguous as well."""
    is_channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if is_channels_last else torch.contiguous_format
