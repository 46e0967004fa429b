"""Signatures of a user's own components as the schema of their options."""

from functools import partial
from typing import Dict, List  # noqa: UP035  # as older code says it

import pytest
from torch import nn

from vsr.config.schema import Report, check_mapping, check_value, options_of, settings_of


class WithoutInit(nn.Module):
    def forward(self, sr, gt):
        return (sr - gt).abs().mean()


def takes_images(*images, weight: float = 1.0):
    return weight


def takes_more(sr, gt, weight: float = 1.0, *args: int, **kwargs: int):
    return weight


@pytest.mark.parametrize(
    ("component", "supplied", "names"),
    [(WithoutInit, 0, []), (takes_more, 2, ["weight"]), (takes_images, 2, ["weight"])],
)
def test_further_arguments_are_no_options(component, supplied, names):
    report = Report()
    assert list(options_of(component, supplied)) == names
    assert check_mapping({}, component, "part", report, supplied) == {}
    assert not report.mistakes
    assert "args" not in settings_of(partial(component))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (dict, {"a": 1}),
        (list, [1, "a"]),
        (object, "text"),
        (object, None),
        (Dict, {"a": 1}),  # noqa: UP006
        (List, [1]),  # noqa: UP006
        (dict | None, None),
    ],
)
def test_a_bare_kind_takes_what_it_says(annotation, value):
    report = Report()
    assert check_value(value, annotation, "key", report) == value
    assert not report.mistakes


def test_a_bare_tuple_is_made_of_a_list():
    assert check_value([1, "a"], tuple, "key", Report()) == (1, "a")


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (dict, [1], "key: expected a mapping, got [1] (a list)"),
        (list, {"a": 1}, "key: expected a list, got a mapping"),
        (tuple, 1, "key: expected a list, got 1 (a whole number)"),
    ],
)
def test_a_bare_kind_refuses_another(annotation, value, message):
    report = Report()
    check_value(value, annotation, "key", report)
    assert report.mistakes == [message]
