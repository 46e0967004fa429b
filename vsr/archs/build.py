"""Builds networks on the meta device, and checks their Specs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from vsr.contracts import HasSpec, Spec

# raised by PyTorch for values that a meta tensor does not have, and for sizes that it cannot count
REFUSALS = (RuntimeError, TypeError, OverflowError)
TESTED_SIZE = 16  # pixels; larger where the Spec says so


def without_values(build: Callable[[], Any], mode: AbstractContextManager[object]) -> Any:
    """Builds a network under ``mode``, or for real if its constructor reads tensor values.

    ``mode`` allocates no memory: ``torch.device("meta")`` or ``FakeTensorMode()``.
    """
    try:
        with mode:
            return build()
    except REFUSALS as error:
        if isinstance(error, OverflowError) or "overflow" in str(error):  # a real build would fail, too
            raise
    return build()


def checked_network(build: Callable[[], nn.Module]) -> nn.Module:
    """Builds a network on the meta device and runs it once, to check its Spec.

    Raises:
        ValueError: its options are wrong, it has no ``spec``, or its output has another shape than its spec says.
    """
    try:
        network = without_values(build, torch.device("meta"))
    except REFUSALS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"it cannot be built with these sizes: {reason}") from None
    check_output(network)
    return network


def spec_of(network: nn.Module) -> Spec:
    """Returns a network's Spec; raises ValueError if it has none."""
    if isinstance(network, HasSpec) and isinstance(network.spec, Spec):
        return network.spec
    remedy = "set self.spec = Spec(reads=…, num_frames=…, scale=…) in its constructor; see docs/training.md"
    raise ValueError(f"network {type(network).__name__} has no spec: {remedy}")


def input_shapes(spec: Spec) -> list[tuple[int, ...]]:
    """Returns the shapes of a small input: (1, t, 3, h, w), or those of query and sentences."""
    if spec.frame_size is not None:
        size = spec.frame_size
    elif spec.map_size is not None:
        size = tuple(side * spec.pixels_per_position // spec.scale for side in spec.map_size)
    else:
        size = (-(-max(spec.min_size, TESTED_SIZE) // spec.multiple) * spec.multiple,) * 2
    if spec.task == "next-frame":
        return [(1, 3, *size), (1, 2, 3, *size)]
    return [(1, spec.num_frames or max(spec.min_frames, 3), 3, *size)]


def check_output(network: nn.Module) -> None:
    """Raises ValueError if the output of a small input has another shape than the network's spec says.

    A network that cannot run without values is not checked.
    """
    spec, name = spec_of(network), type(network).__name__
    shapes = input_shapes(spec)
    device = next((parameter.device for parameter in network.parameters()), torch.device("meta"))
    was_training = network.training
    try:
        with torch.no_grad():
            output = network.eval()(*(torch.zeros(shape, device=device) for shape in shapes))
    except ValueError as error:
        raise ValueError(f"{name} refuses an input of {shapes[0]}, which its spec allows: {error}") from None
    except REFUSALS:
        return
    finally:
        network.train(was_training)
    h, w = shapes[0][-2] * spec.scale, shapes[0][-1] * spec.scale
    if spec.task == "next-frame":
        output = output[0] if isinstance(output, tuple) else output
        expected = (1, 2 if spec.test_type == "opticalflow" else 3, h, w)
    else:
        expected = (1, 3, h, w) if spec.reads == "window" else (1, shapes[0][1], 3, h, w)
    got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if got != expected:
        raise ValueError(f"{name} returns {got} for an input of {shapes[0]}, but its spec says {expected}")
