"""Which parameters are trained, from when on and how fast: a pure function of (rules, name, iteration)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from torch import nn

from vsr.ops import ModulatedDeformConvPack
from vsr.registry import NotNegative, at_least


@dataclass(frozen=True)
class ParameterRule:
    """A rule for the parameters whose names match; ~ leaves a field to the rules before it.

    Args:
        match: a regular expression that is searched in the parameter's name: ``spynet``, ``^encoder``; "" matches all.
        lr_mul: factor of the learning rate, before warm-up and schedule; 0 never trains.
        from_iter: the first iteration, counted from 1, that trains the parameter.
        frozen: never trains.
    """

    match: str
    lr_mul: Annotated[float, at_least(0)] | None = None
    from_iter: NotNegative | None = None
    frozen: bool | None = None

    def __post_init__(self) -> None:
        try:
            re.compile(self.match)
        except re.error as error:
            raise ValueError(f"match '{self.match}' is not a regular expression: {error}") from None
        if self.lr_mul is None and self.from_iter is None and self.frozen is None:
            raise ValueError(f"the rule for '{self.match}' has no effect: give lr_mul, from_iter or frozen")


class Training(NamedTuple):
    """How a parameter is trained: whether it is, and the factor of its learning rate."""

    is_trainable: bool
    factor: float


def training_of(rules: Sequence[ParameterRule], name: str, iteration: int) -> Training:
    """Returns how a parameter is trained in an iteration, counted from 1.

    Each field is taken from the last rule that matches the name and gives the field.
    """
    factor, from_iter, frozen = 1.0, 0, False
    for rule in rules:
        if re.search(rule.match, name):
            factor = factor if rule.lr_mul is None else rule.lr_mul
            from_iter = from_iter if rule.from_iter is None else rule.from_iter
            frozen = frozen if rule.frozen is None else rule.frozen
    return Training(not frozen and factor > 0 and iteration >= from_iter, factor)


def phase_of(rules: Sequence[ParameterRule], iteration: int) -> int:
    """Returns a number that changes whenever the set of trained parameters may change."""
    return sum(rule.from_iter is not None and rule.from_iter <= iteration for rule in rules)


def unmatched(rules: Sequence[ParameterRule], network: nn.Module) -> Iterator[tuple[str, str]]:
    """Yields the key of each rule that matches no parameter of the network, and the reason."""
    names = [name for name, _ in network.named_parameters()]
    known = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
    for index, rule in enumerate(rules):
        if not any(re.search(rule.match, name) for name in names):
            text = f"'{rule.match}' matches no parameter of {type(network).__name__}; their names begin with {known}"
            yield f"parameters[{index}].match", text


def parameter_groups(network: nn.Module, lr: float, rules: Sequence[ParameterRule]) -> list[dict[str, Any]]:
    """Returns the optimiser's groups: ``params``, ``lr`` times their factor, and whether of ``deformable`` layers."""
    layers = [module for module in network.modules() if isinstance(module, ModulatedDeformConvPack)]
    deformable = {id(parameter) for layer in layers for parameter in layer.parameters()}
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        key = training_of(rules, name, 0).factor, id(parameter) in deformable
        group = groups.setdefault(key, {"params": [], "lr": lr * key[0], "deformable": key[1]})
        group["params"].append(parameter)
    return list(groups.values())
