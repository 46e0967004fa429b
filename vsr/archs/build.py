"""Builds networks on the meta device, and checks their Specs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, get_args

import torch
from torch import nn

from vsr.contracts import HasSpec, Reads, Spec, Task, TestType
from vsr.utils.errors import described

# raised by PyTorch for values that a meta tensor does not have, and for sizes that it cannot count
REFUSALS = (RuntimeError, TypeError, OverflowError)
TESTED_SIZE = 16  # pixels; larger where the Spec says so
LARGER_SIZE = 64  # for networks that need more pixels than their Spec says
CHOICES = {"reads": get_args(Reads), "task": get_args(Task), "test_type": (None, *get_args(TestType))}
COUNTS = "scale", "multiple", "min_size", "min_frames", "pixels_per_position"  # fields of a Spec, at least 1


class NetworkError(ValueError):
    """A network fails on an input that its Spec allows."""

    def __init__(self, network: nn.Module, shape: tuple[int, ...], device: torch.device, error: Exception) -> None:
        text = f"{type(network).__name__} fails on an input of {shape}: {described(error)}"
        is_free = isinstance(network, HasSpec) and network.spec.reads == "window" and network.spec.num_frames is None
        advice = "; one that needs a certain number of frames says Spec(num_frames=…)"
        super().__init__(text + (advice if is_free and "channels" in str(error) else ""))
        self.lacks_values = device.type == "meta"
        self.lacks_gpu = any(word in str(error).lower() for word in ("cuda", "gpu", "could not run '"))


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

    A network that fails there may need values: a second one is built and runs on the CPU. One that needs a GPU is not
    checked.

    Raises:
        ValueError: its options are wrong, it has no ``spec``, it fails on a small input, or its output has another
            shape than its spec says.
    """
    try:
        network = without_values(build, torch.device("meta"))
    except ValueError:
        raise
    except Exception as error:  # the user's code may raise any
        raise ValueError(f"it cannot be built with these options: {described(error)}") from None
    try:
        try:
            check_output(network)
        except NetworkError as error:
            if not error.lacks_values:
                raise
            check_output(build())
    except NetworkError as error:
        if not error.lacks_gpu:
            raise
    return network


def spec_of(network: nn.Module) -> Spec:
    """Returns a network's Spec; raises ValueError if it has none, or one with a wrong value."""
    name = type(network).__name__
    if not (isinstance(network, HasSpec) and isinstance(network.spec, Spec)):
        remedy = "set self.spec = Spec(reads=…, num_frames=…, scale=…) in its constructor; see docs/training.md"
        raise ValueError(f"network {name} has no spec: {remedy}")
    fields = network.spec._asdict()
    for key in (key for key, choices in CHOICES.items() if fields[key] not in choices):
        expected = " or ".join(str(choice) for choice in CHOICES[key])
        raise ValueError(f"the spec of {name}: {key}: {fields[key]!r}; expected {expected}")
    for key in (key for key in COUNTS if not isinstance(fields[key], int) or fields[key] < 1):
        raise ValueError(f"the spec of {name}: {key}: {fields[key]!r}; expected a whole number of at least 1")
    return network.spec


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
    """Runs a network on a small input and compares its output with its spec.

    A network that fails is run on a larger input, if it reads inputs of any size.

    Raises:
        NetworkError: it fails.
        ValueError: it refuses the input, or its output has another shape than its spec says.
    """
    spec, name = spec_of(network), type(network).__name__
    shapes = input_shapes(spec)
    try:
        output = _run(network, shapes)
    except NetworkError as error:
        shapes = input_shapes(spec._replace(min_size=max(spec.min_size, LARGER_SIZE)))
        try:
            output = _run(network, shapes)
        except ValueError:
            raise error from None
    h, w = shapes[0][-2] * spec.scale, shapes[0][-1] * spec.scale
    if spec.task == "next-frame":
        output = output[0] if isinstance(output, tuple) else output
        expected = (1, 2 if spec.test_type == "opticalflow" else 3, h, w)
    else:
        expected = (1, 3, h, w) if spec.reads == "window" else (1, shapes[0][1], 3, h, w)
    got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if got != expected:
        raise ValueError(f"{name} returns {got} for an input of {shapes[0]}, but its spec says {expected}")


def _run(network: nn.Module, shapes: list[tuple[int, ...]]) -> Any:
    """Returns a network's output for black frames."""
    device = next((parameter.device for parameter in network.parameters()), torch.device("meta"))
    was_training = network.training
    try:
        with torch.no_grad():
            return network.eval()(*(torch.zeros(shape, device=device) for shape in shapes))
    except ValueError as error:
        name = type(network).__name__
        raise ValueError(f"{name} refuses an input of {shapes[0]}, which its spec allows: {error}") from None
    except Exception as error:  # the user's code may raise any
        raise NetworkError(network, shapes[0], device, error) from None
    finally:
        network.train(was_training)
