"""Activation checkpointing: the backward pass recomputes a network's activations, block by block."""

from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from vsr.contracts import HasSpec
from vsr.utils.buffers import persistent_buffers, remember


def recompute_blocks(network: nn.Module) -> None:
    """Makes each block of a network keep its inputs only, and recompute its activations in the backward pass."""
    for block in blocks(network):
        block.forward = partial(_recomputed, block, block.forward)


def blocks(network: nn.Module) -> list[nn.Module]:
    """Returns the blocks: a network's children; instead of a container of modules, or of a network, its children."""
    parts = []
    for child in network.children():
        if isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict | HasSpec):
            parts += blocks(child)
        elif list(child.children()):
            parts.append(child)
    return parts


def _recomputed(block: nn.Module, forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    if not torch.compiler.is_compiling() and persistent_buffers(block):  # compiled code changes them once
        options["context_fn"] = lambda: (nullcontext(), _buffers_kept(block))
    return checkpoint(forward, *inputs, use_reentrant=False, **options)


@contextmanager
def _buffers_kept(block: nn.Module) -> Generator[None]:
    """Keeps a recomputation from updating buffers, such as BatchNorm's means, a second time."""
    put_back = remember(persistent_buffers(block))
    try:
        yield
    finally:  # PyTorch ends a recomputation early, with an exception
        put_back()
