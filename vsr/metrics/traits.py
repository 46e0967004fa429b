"""The traits of a metric that the program has to know: what it reads, and which value is better."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple, TypeVar

Metric = TypeVar("Metric", bound=Callable[..., float])


class Traits(NamedTuple):
    """How a metric is called, and how its values compare.

    Args:
        reads: ``frame``: the metric is called with (restored, truth), both (h, w, 3) uint8 BGR. ``pair``: it is called
            with (restored, truth, restored before, truth before), where "before" is the frame before in the clip; the
            first frame of a clip has no value.
        lower_is_better: whether a smaller value is better.
        prepare: is called with the metric's options before the first frame is restored; it raises UserError where a
            package or a file of weights is missing.
        how: settings of the measure that are no options, for ``metrics.json``.
    """

    reads: Literal["frame", "pair"] = "frame"
    lower_is_better: bool = False
    prepare: Callable[..., object] | None = None
    how: str = ""


def traits(
    reads: Literal["frame", "pair"] = "frame",
    *,
    lower_is_better: bool = False,
    prepare: Callable[..., object] | None = None,
    how: str = "",
) -> Callable[[Metric], Metric]:
    """Returns a decorator that gives a metric its :class:`Traits`."""

    def decorate(metric: Metric) -> Metric:
        vars(metric).update(Traits(reads, lower_is_better, prepare, how)._asdict())
        return metric

    return decorate


def traits_of(metric: Callable[..., float]) -> Traits:
    """Returns the traits of a metric of ``val.metrics``; a plain function reads a frame, and higher is better.

    A function of one's own may declare a trait as an attribute, ``my_metric.lower_is_better = True``.
    """
    declared = vars(metric.func if isinstance(metric, partial) else metric)
    return Traits(**{name: declared[name] for name in Traits._fields if name in declared})


def prepare(metrics: Mapping[str, Callable[..., float]]) -> None:
    """Prepares metrics, before the first frame is restored; raises UserError where one cannot be measured."""
    for metric in metrics.values():
        if (load := traits_of(metric).prepare) is not None:
            load(**(metric.keywords if isinstance(metric, partial) else {}))
