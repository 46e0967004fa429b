"""Learning-rate schedules: pure functions of the iteration, so that resuming cannot lose their place.

Each takes the iteration, counted from 0, and a group's base rate, and returns the rate of that iteration. The values
are those of EDVR's and PyTorch's schedulers, which options files know by these names.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import Annotated

from vsr.registry import NotNegative, Positive, above, at_least, at_most, register

Rate = Annotated[float, at_least(0)]
Factor = Annotated[float, above(0), at_most(1)]
Share = Annotated[float, at_least(0), at_most(1)]


@register("scheduler", "CosineAnnealingRestartLR")
def cosine_annealing_restart(
    iteration: int,
    base_lr: float,
    /,
    periods: list[Positive],
    restart_weights: list[Rate] = [1.0],  # noqa: B006 (read only)
    eta_min: Rate = 0.0,
) -> float:
    """Returns a rate that falls as half a cosine from ``base_lr`` to ``eta_min`` in each period, then restarts.

    Args:
        iteration: counted from 0.
        base_lr: the rate at the start.
        periods: iterations of each period. After the last one the rate stays at its end.
        restart_weights: factor of the rate in each period; one for all, or one per period.
        eta_min: the rate at the end of a period.

    Raises:
        ValueError: periods and weights do not fit.

    Reference: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, equation 5,
        https://arxiv.org/abs/1608.03983
    Differs: the last iteration of a period still has the period's end rate.
    """
    weights = restart_weights * len(periods) if len(restart_weights) == 1 else restart_weights
    if not periods:
        raise ValueError("periods is empty: give the iterations of each period")
    if len(weights) != len(periods):
        raise ValueError(f"{len(periods)} periods and {len(weights)} restart_weights; give as many, or one weight")
    ends = list(accumulate(periods))
    index = min(bisect_left(ends, iteration), len(periods) - 1)
    progress = min(1.0, (iteration - (ends[index] - periods[index])) / periods[index])
    return eta_min + weights[index] * 0.5 * (base_lr - eta_min) * (1 + math.cos(math.pi * progress))


@register("scheduler", "MultiStepRestartLR")
def multi_step_restart(
    iteration: int,
    base_lr: float,
    /,
    milestones: list[NotNegative],
    gamma: Rate = 0.1,
    restarts: list[NotNegative] = [0],  # noqa: B006 (read only)
    restart_weights: list[Rate] = [1.0],  # noqa: B006 (read only)
) -> float:
    """Returns a rate that is multiplied by ``gamma`` at each milestone and set anew at each restart.

    Args:
        iteration: counted from 0.
        base_lr: the rate at the start.
        milestones: iterations at which the rate falls.
        gamma: the factor of the rate at each milestone.
        restarts: iterations at which the rate is ``base_lr`` times the restart's weight again.
        restart_weights: as many as restarts.

    Raises:
        ValueError: restarts and weights do not fit.

    Differs: BasicSR multiplies the rate of the step before, so that after a warm-up of n steps it stays at (n − 1) / n.
    """
    if len(restarts) != len(restart_weights):
        raise ValueError(f"{len(restarts)} restarts and {len(restart_weights)} restart_weights; give as many")
    last = bisect_right(sorted(restarts), iteration) - 1
    start, weight = (sorted(zip(restarts, restart_weights, strict=True))[last]) if last >= 0 else (-1, 1.0)
    return base_lr * weight * gamma ** sum(start < milestone <= iteration for milestone in milestones)


@register("scheduler", "CosineAnnealingLR")
def cosine_annealing(iteration: int, base_lr: float, /, T_max: Positive, eta_min: Rate = 0.0) -> float:  # noqa: N803
    """Returns a rate that falls as half a cosine from ``base_lr`` to ``eta_min``, and then rises again.

    Args:
        iteration: counted from 0.
        base_lr: the rate at the start.
        T_max: iterations until the rate is ``eta_min``; it is ``base_lr`` again after as many.
        eta_min: the lowest rate.

    Reference: PyTorch's ``CosineAnnealingLR``, in closed form.
    """
    return eta_min + (base_lr - eta_min) * (1 + math.cos(math.pi * iteration / T_max)) / 2


@register("scheduler", "LinearLR")
def linear(
    iteration: int, base_lr: float, /, start_factor: Factor = 1 / 3, end_factor: Share = 1.0, total_iters: Positive = 5
) -> float:
    """Returns a rate that changes along a line, as PyTorch's ``LinearLR``.

    Args:
        iteration: counted from 0.
        base_lr: the options' rate.
        start_factor: factor of the rate at iteration 0, at most 1.
        end_factor: factor from iteration ``total_iters`` on, at most 1.
        total_iters: iterations of the change.
    """
    progress = min(iteration / total_iters, 1.0)
    return base_lr * (start_factor + (end_factor - start_factor) * progress)


def learning_rate(
    iteration: int, base_lr: float, schedule: Callable[[int, float], float] | None, warmup_iter: int
) -> float:
    """Returns the rate of an iteration, counted from 0: a line from 0 to ``base_lr``, then the schedule's.

    The warm-up takes ``warmup_iter`` iterations, none if below 1; without a schedule the base rate is kept.
    """
    if iteration + 1 < warmup_iter:
        return base_lr * (iteration + 1) / warmup_iter
    return schedule(iteration, base_lr) if schedule else base_lr
