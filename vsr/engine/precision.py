"""Switches of speed and precision, applied to a network before it is trained."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from vsr.engine.buffers import persistent_buffers, remember
from vsr.engine.options import TrainOptions
from vsr.utils.errors import UserError
from vsr.utils.log import logger


def autocast_type(amp: Literal["auto", "bf16", "fp16", "off"], device: torch.device) -> torch.dtype | None:
    """Returns the 16-bit type to compute in; None computes in 32 bits.

    Raises:
        UserError: the device cannot.
    """
    on_gpu = device.type == "cuda"
    if amp == "auto":
        chosen = torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else None
        logger.info("train.amp: auto is %s on this device", "bf16" if chosen else "off")
        return chosen
    if amp == "fp16" and not on_gpu:
        raise UserError("train.amp: fp16 needs a GPU, for loss scaling; bf16 runs on CPUs too")
    if amp == "bf16" and on_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError("train.amp: bf16 needs a GPU of the Ampere generation or later; fp16 runs on this one")
    slow = torch.backends.mkldnn.is_available() and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if amp == "bf16" and not on_gpu and slow:
        logger.warning("train.amp: bf16 is slow on this CPU, which has no instructions for it; off is faster")
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}[amp]


def apply_switches(network: nn.Module, train: TrainOptions, device: torch.device) -> None:
    """Sets PyTorch's global switches and the network's, as the options say."""
    if train.tf32 is not None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = train.tf32
    torch.backends.cudnn.benchmark = device.type == "cuda" and not train.deterministic
    torch.use_deterministic_algorithms(train.deterministic, warn_only=True)
    if train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it PyTorch warns of every matrix product
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # only finds mistakes
    if train.checkpointing:
        for block in blocks(network):
            block.forward = partial(_recomputed, block, block.forward)


def blocks(network: nn.Module) -> list[nn.Module]:
    """Returns the parts between which features are kept: what a network is made of, and the links of its chains."""
    parts = []
    for child in network.children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            parts += blocks(child)
        elif list(child.children()):
            parts.append(child)
    return parts


def _recomputed(block: nn.Module, forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)
    if not torch.compiler.is_compiling() and persistent_buffers(block):  # compiled code changes them once
        options["context_fn"] = lambda: (nullcontext(), _buffers_kept(block))
    return checkpoint(forward, *inputs, use_reentrant=False, **options)


@contextmanager
def _buffers_kept(block: nn.Module) -> Generator[None]:
    """Keeps a recomputation from changing buffers, such as BatchNorm's means, a second time."""
    put_back = remember(persistent_buffers(block))
    try:
        yield
    finally:  # a recomputation that has all it needs ends with an exception
        put_back()
