"""PyTorch's optimisers, registered under their names: an option is a parameter of the optimiser's constructor."""

import inspect
import types
from collections.abc import Callable, Iterable
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor
from torch.optim import Optimizer

from vsr.engine.optim.schedules import Rate
from vsr.registry import register

# LBFGS evaluates the loss several times a step, SparseAdam wants sparse gradients
_LEFT_OUT = ("Optimizer", "LBFGS", "SparseAdam")
_NO_OPTIONS = ("foreach", "capturable", "differentiable", "maximize")  # how a step is computed, and its sign


def _register(optimizer: Callable[..., Optimizer]) -> None:
    """Registers an optimiser as a function of parameter groups and its options, of which ``lr`` has no default."""

    def build(groups: Iterable[Any], /, **options: Any) -> Optimizer:
        return optimizer(groups, **options)

    name = optimizer.__name__
    hints = get_type_hints(optimizer.__init__)
    groups = inspect.Parameter("groups", inspect.Parameter.POSITIONAL_ONLY, annotation=Iterable[Any])
    lr = inspect.Parameter("lr", inspect.Parameter.KEYWORD_ONLY, annotation=Rate)
    options = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=_without_tensors(hints[parameter.name]))
        for parameter in inspect.signature(optimizer).parameters.values()
        if parameter.name not in ("params", "lr", *_NO_OPTIONS)
    ]
    build.__signature__ = inspect.Signature([groups, lr, *options])  # type: ignore[attr-defined]
    build.__annotations__ = {parameter.name: parameter.annotation for parameter in (groups, lr, *options)}
    build.__doc__ = f"Returns PyTorch's {name}; arguments as :class:`torch.optim.{name}`."
    build.__name__ = build.__qualname__ = name
    register("optimizer", name)(build)


def _without_tensors(hint: Any) -> Any:
    """Returns a type without Tensor, which an options file cannot hold."""
    kinds = tuple(_without_tensors(kind) for kind in get_args(hint) if kind is not Tensor)
    if get_origin(hint) in (Union, types.UnionType):
        return Union[kinds]  # noqa: UP007  # of a tuple
    return tuple[kinds] if get_origin(hint) is tuple else hint


for _name, _optimizer in inspect.getmembers(torch.optim, inspect.isclass):
    if issubclass(_optimizer, Optimizer) and _name not in _LEFT_OUT:
        _register(_optimizer)
