"""PyTorch's optimisers, registered under their names."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from vsr.engine.optim.schedules import Rate
from vsr.registry import register

_KINDS = {float: float, bool: bool, tuple: tuple[float, float], type(None): bool | None}  # of options, by their default
_BETAS = (0.9, 0.999)
# Options and PyTorch's defaults. Not here: LBFGS, which needs several losses a step, SparseAdam and Muon, which do not
# take the parameters of convolutions.
_OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False, "fused": None},
    "Adam": {"weight_decay": 0.0, "betas": _BETAS, "eps": 1e-8, "amsgrad": False, "fused": None},
    "AdamW": {"weight_decay": 0.01, "betas": _BETAS, "eps": 1e-8, "amsgrad": False, "fused": None},
    "Adamax": {"weight_decay": 0.0, "betas": _BETAS, "eps": 1e-8},
    "NAdam": {"weight_decay": 0.0, "betas": _BETAS, "eps": 1e-8, "momentum_decay": 0.004},
    "RAdam": {"weight_decay": 0.0, "betas": _BETAS, "eps": 1e-8},
    "Adagrad": {"lr_decay": 0.0, "weight_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10, "fused": None},
    "Adadelta": {"rho": 0.9, "weight_decay": 0.0, "eps": 1e-6},
    "Adafactor": {"beta2_decay": -0.8, "d": 1.0, "weight_decay": 0.0},
    "RMSprop": {"alpha": 0.99, "momentum": 0.0, "weight_decay": 0.0, "eps": 1e-8, "centered": False},
    "Rprop": {"etas": (0.5, 1.2), "step_sizes": (1e-6, 50.0)},
    "ASGD": {"lambd": 1e-4, "alpha": 0.75, "t0": 1e6, "weight_decay": 0.0},
}
_TEXTS = {
    "lr": "the learning rate.",
    "weight_decay": "L2 penalty added to the gradient; AdamW shrinks the weights by it instead.",
    "betas": "decay of the running means of the gradient and of its square; EDVR was trained with (0.9, 0.99).",
    "eps": "added to the denominator.",
    "amsgrad": "divides by the largest running mean so far.",
    "fused": "one kernel for all parameters; null lets PyTorch choose.",
    "momentum": "decay of the running sum of gradients.",
    "dampening": "share of the gradient that does not enter this sum.",
    "nesterov": "takes the gradient ahead, at the end of the next step.",
    "momentum_decay": "decay of the momentum.",
    "lr_decay": "decay of the learning rate.",
    "initial_accumulator_value": "start of the sum of squared gradients.",
    "rho": "decay of the running mean of the squared gradient.",
    "beta2_decay": "exponent of the decay of the running mean of the squared gradient.",
    "d": "largest root mean square of an update.",
    "alpha": "decay of the running mean of the squared gradient; of ASGD, exponent of the learning rate's decay.",
    "centered": "divides by the gradient's estimated variance.",
    "etas": "factors of a step that shrinks and of one that grows.",
    "step_sizes": "smallest and largest step.",
    "lambd": "decay term.",
    "t0": "steps before averaging begins.",
}


def _register(name: str, options: dict[str, Any]) -> None:
    """Registers an optimiser of PyTorch as a function of parameter groups and of the options."""
    optimizer: Callable[..., Optimizer] = vars(torch.optim)[name]

    def build(groups: Iterable[Any], /, **options: Any) -> Optimizer:
        return optimizer(groups, **options)

    groups = inspect.Parameter("groups", inspect.Parameter.POSITIONAL_ONLY, annotation=Iterable[Any])
    parameters = [groups, inspect.Parameter("lr", inspect.Parameter.KEYWORD_ONLY, annotation=Rate)]
    for key, default in options.items():
        kind = _KINDS[type(default)]
        parameters.append(inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind))
    build.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    build.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    build.__name__ = build.__qualname__ = name
    entries = "".join(f"    {key}: {_TEXTS[key]}\n" for key in ("lr", *options))
    build.__doc__ = f"Returns PyTorch's {name}.\n\nArgs:\n    groups: parameters or parameter groups.\n{entries}"
    register("optimizer", name)(build)


for _name, _options in _OPTIMIZERS.items():
    _register(_name, _options)
