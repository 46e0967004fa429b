"""Values that the sections of an options file refuse."""

import pytest

from vsr.config.options import DistOptions, ValOptions, VisdomOptions


@pytest.mark.parametrize("port", [0, -1, 65536, 99999999])
@pytest.mark.parametrize("section", [DistOptions, VisdomOptions])
def test_a_port_that_is_none_is_refused(section, port):
    with pytest.raises(ValueError, match=f"port is {port}; choose 1 to 65535"):
        section(port=port)


@pytest.mark.parametrize("name", ["a\nb", "a,b", "a\0b", "a\rb"])
def test_a_metrics_name_that_breaks_a_line_of_the_table_is_refused(name):
    with pytest.raises(ValueError, match=r"metrics has the name .* choose one of letters"):
        ValOptions(metrics={name: lambda sr, gt: 0.0})


def test_ports_and_names_that_are_right_are_taken():
    assert (DistOptions().port, DistOptions(port=1).port, DistOptions(port=65535).port) == (None, 1, 65535)
    assert list(ValOptions(metrics={"psnr (y)": lambda sr, gt: 0.0}).metrics) == ["psnr (y)"]
