"""Values that the sections of an options file refuse."""

import pytest

from vsr.config.options import ValOptions


@pytest.mark.parametrize("name", ["a\nb", "a,b", "a\0b", "a\rb"])
def test_a_metrics_name_that_breaks_a_line_of_the_table_is_refused(name):
    with pytest.raises(ValueError, match=r"metrics: the name .* choose letters"):
        ValOptions(metrics={name: lambda sr, gt: 0.0})


def test_a_name_with_spaces_and_brackets_is_accepted():
    assert list(ValOptions(metrics={"psnr (y)": lambda sr, gt: 0.0}).metrics) == ["psnr (y)"]
