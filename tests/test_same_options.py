"""Options are compared by what they mean, not by how they are spelt."""

import pytest

from vsr.trainers.resume import differences, same_validation


@pytest.mark.parametrize(
    ("former", "current", "change"),
    [
        ("1e-3", 0.001, []),
        (1, 1.0, []),
        ([0.9, "1e-3"], [0.9, 0.001], []),
        ((1, 2), [1, 2], []),
        ("1e-3", 0.002, ["train.optim_g.lr: 0.001 → 0.002"]),
        ([0.9, "1e-3"], [0.9, 0.002], ["train.optim_g.lr: [0.9, 0.001] → [0.9, 0.002]"]),
        ("a", "b", ["train.optim_g.lr: 'a' → 'b'"]),
    ],
)
def test_a_number_spelt_otherwise_is_no_change(former, current, change):
    before, now = ({"train": {"optim_g": {"lr": value}}} for value in (former, current))
    assert differences(before, now) == change


def test_a_validation_spelt_otherwise_measures_the_same():
    def measured(border):
        return {"datasets": {}, "val": {"metrics": {"psnr": {"type": "calculate_psnr", "crop_border": border}}}}

    assert same_validation(measured("1e1"), measured(10))
    assert not same_validation(measured("1e1"), measured(11))
