"""Optimisers by the names of torch.optim: theirs, their options, and what an options file may say of them."""

import inspect

import pytest
import torch
from options_files import change, mistakes, write

from vsr import config, registry
from vsr.config.schema import options_of

LEFT_OUT = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
THEIRS = [
    name
    for name, kind in inspect.getmembers(torch.optim, inspect.isclass)
    if issubclass(kind, torch.optim.Optimizer) and name not in LEFT_OUT
]


def stepped(build, **options):
    """Returns a matrix after three steps."""
    value = torch.linspace(-1, 1, 12).reshape(3, 4).requires_grad_()
    optimizer = build([value], lr=0.1, **options)
    for _ in range(3):
        optimizer.zero_grad()
        (value - 0.3).square().sum().backward()
        optimizer.step()
    return value


@pytest.mark.parametrize("name", THEIRS)
def test_every_optimizer_of_pytorch_makes_its_steps(name):
    ours, theirs = registry.find("optimizer", name), getattr(torch.optim, name)
    assert torch.equal(stepped(ours), stepped(theirs))
    options = options_of(ours)
    assert options["lr"].default is inspect.Parameter.empty and next(iter(options)) == "lr"
    parameters = inspect.signature(theirs).parameters
    assert all(option.default == parameters[key].default for key, option in options.items() if key != "lr")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"type": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True}, None),
        ({"type": "RMSprop", "lr": "1e-3", "centered": True}, None),
        ({"type": "Adafactor", "lr": 0.1, "d": 2}, None),
        ({"type": "Adam", "lr": 1e-4, "amsgrad": True, "betas": [0.9, 0.99]}, None),
        ({"type": "SGD", "momentum": 0.9}, "train.optim_g.lr: missing"),
        ({"type": "SGD", "lr": 0.1, "nesterov": True}, "train.optim_g: Nesterov momentum requires a momentum"),
        ({"type": "SGD", "lr": 0.1, "betas": [0, 1]}, "train.optim_g.betas: unknown key"),
        ({"type": "NAdam", "lr": 0.1, "betas": 0.9}, "train.optim_g.betas: expected a list, got 0.9"),
        ({"type": "LBFGS", "lr": 0.1}, "train.optim_g.type: unknown optimizer 'LBFGS'"),
        ({"type": "adam", "lr": 0.1}, "train.optim_g.type: unknown optimizer 'adam'; did you mean 'Adam'?"),
        ({"type": "Muon", "lr": 0.1}, "train.optim_g.type: unknown optimizer 'Muon'"),
    ],
)
def test_options_of_an_optimizer_are_checked(tmp_path, tree, given, message):
    change(tree, "train.optim_g", given)
    if message is None:
        assert config.load(write(tmp_path, tree)).train.optim_g.keywords.items() >= {"lr": float(given["lr"])}.items()
    else:
        assert message in mistakes(tmp_path, tree)
