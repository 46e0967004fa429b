"""Dtypes, memory formats and checks shared by the operators."""

import torch
from torch import Tensor


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype in which products of ``dtype`` are accumulated."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def layout_of(x: Tensor) -> torch.memory_format:
    """Returns the memory format of results and gradients of ``x`` (n, c, h, w).

    It is channels_last if the channels are innermost, also in a slice of a channels_last tensor, and ``x`` is not
    contiguous as well.
    """
    if x.is_contiguous() or x.shape[1] == 1:
        return torch.contiguous_format
    return torch.channels_last if x.stride(1) == 1 else torch.contiguous_format


def exporting() -> bool:
    """Returns whether torch.export traces (not strictly); PyTorch 2.11's function also says so of torch.compile."""
    return torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling()


def check_tensors(required: dict[str, Tensor], optional: dict[str, Tensor | None]) -> None:
    """Raises ValueError if an argument is not a tensor or is on another device than the first."""
    first, like = next(iter(required.items()))
    for name, x in {**required, **{name: x for name, x in optional.items() if x is not None}}.items():
        if not isinstance(x, Tensor):
            raise ValueError(f"{name} is a {type(x).__name__}; expected a tensor")
        if x.device != like.device:
            raise ValueError(f"{name} is on {x.device}; expected {like.device}, where {first} is")


def check_float(name: str, x: Tensor) -> None:
    """Raises ValueError if the argument has no floating-point dtype that the operators support."""
    if x.dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        raise ValueError(f"{name} has dtype {x.dtype}; expected float32, float64, float16 or bfloat16")
