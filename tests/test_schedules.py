"""Learning-rate schedules: the published schedulers' values, as pure functions of the iteration."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

from vsr.engine.optim.schedules import (
    cosine_annealing,
    cosine_annealing_restart,
    learning_rate,
    linear,
    multi_step_restart,
)


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [
        # EDVR-M's first schedule: base 4e-4, four periods of 150,000; BasicSR's CosineAnnealingRestartLR gives these
        (0, 4e-4),
        (75_000, 1e-7 + 0.5 * (4e-4 - 1e-7)),
        (150_000, 1e-7),  # the last iteration of a period still has its end
        (150_001, 1e-7 + 0.5 * (4e-4 - 1e-7) * (1 + math.cos(math.pi / 150_000))),
        (600_000, 1e-7),
        (700_000, 1e-7),  # BasicSR raises TypeError past the last period
    ],
)
def test_cosine_restarts(iteration, expected):
    rate = cosine_annealing_restart(iteration, 4e-4, periods=[150_000] * 4, restart_weights=[1] * 4, eta_min=1e-7)
    assert rate == pytest.approx(expected, rel=1e-12)


def test_restart_weights_scale_their_period():
    options = {"periods": [50, 100], "restart_weights": [1, 0.5], "eta_min": 0.0}
    assert cosine_annealing_restart(51, 1.0, **options) == pytest.approx(0.5 * 0.5 * (1 + math.cos(math.pi / 100)))


@pytest.mark.parametrize(
    ("iteration", "expected"), [(0, 1), (9, 1), (10, 0.1), (25, 0.01), (30, 0.5), (34, 0.5), (35, 0.05), (99, 0.05)]
)
def test_steps_and_restarts(iteration, expected):
    options = {"milestones": [10, 20, 35], "gamma": 0.1, "restarts": [0, 30], "restart_weights": [1, 0.5]}
    assert multi_step_restart(iteration, 1.0, **options) == pytest.approx(expected)


def test_warm_up_rises_to_the_schedule():
    rates = [learning_rate(i, 1.0, lambda i, base: base, warmup_iter=4) for i in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert learning_rate(0, 1.0, None, warmup_iter=-1) == 1.0


@pytest.mark.parametrize("options", [{"periods": []}, {"periods": [5, 5], "restart_weights": [1, 1, 1]}])
def test_periods_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError, match="periods"):
        cosine_annealing_restart(0, 1.0, **options)


def test_restarts_without_weights_are_refused():
    with pytest.raises(ValueError, match="restart_weights"):
        multi_step_restart(0, 1.0, milestones=[1], restarts=[0, 5])


@pytest.mark.parametrize(
    ("name", "schedule", "options"),
    [
        ("CosineAnnealingLR", cosine_annealing, {"T_max": 20}),
        ("CosineAnnealingLR", cosine_annealing, {"T_max": 7, "eta_min": 1e-5}),
        ("LinearLR", linear, {}),
        ("LinearLR", linear, {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 30}),
    ],
)
def test_pytorchs_schedules_have_its_values(name, schedule, options):
    """Also past their ends, where the cosine rises again."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2e-4)
    theirs = getattr(lr_scheduler, name)(optimizer, **options)
    for iteration in range(50):
        rate = optimizer.param_groups[0]["lr"]
        assert schedule(iteration, 2e-4, **options) == pytest.approx(rate, rel=1e-9, abs=1e-15)
        optimizer.step()
        theirs.step()
