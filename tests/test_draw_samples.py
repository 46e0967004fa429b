"""Pictures of training samples."""

import cv2
import numpy as np
import pytest
from load_script import load_script
from training import small_options, write_options

from vsr.utils.errors import UserError

script = load_script("draw_samples")
RECURRENT = {"datasets__train__type": "REDSRecurrentDataset", "datasets__train__use_rot": False, "datasets__val": None}


def drawn(tmp_path, options, *arguments):
    file = tmp_path / "samples.png"
    script.main(["-opt", str(write_options(tmp_path, options)), "--to", str(file), *arguments])
    return cv2.imread(str(file))


def test_samples_are_drawn_with_their_ground_truth_and_lq(tmp_path, clips):
    picture = drawn(tmp_path, small_options(clips, **RECURRENT), "--samples", "3")
    assert picture.shape == (2 * 36, 2 * (3 * 36 + 8), 3)
    gt, first = picture[:32, :32].astype(float), picture[:32, 36:68].astype(float)
    assert np.array_equal(first[::4, ::4], first[3::4, 3::4])  # LQ pixels are squares of 4 x 4
    assert 0 < np.abs(gt - first).mean() < 60
    assert (picture[36:68, 116:] == 255).all()  # there is no fourth


@pytest.mark.parametrize("place", ["loader", "device"])
def test_a_degradation_is_seen_wherever_it_is_computed(tmp_path, clips, place):
    degradation = {"degradation": {"type": "realbasicvsr"}, "degrade_on": place, "dataroot_lq": None}
    options = small_options(clips, **RECURRENT, **{f"datasets__train__{key}": v for key, v in degradation.items()})
    picture = drawn(tmp_path, options, "--samples", "1", "--columns", "1")
    assert picture.shape == (36, 4 * 36 + 8, 3)  # the ground truth twice
    assert not np.array_equal(picture[:32, :32], picture[:32, 36:68])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "0"], "have to be at least 1"),
        (["--to", "a.gif"], "a.gif: expected a name that ends in .jpg or .p"),
    ],
)
def test_wrong_arguments_are_one_message(tmp_path, clips, arguments, message):
    with pytest.raises(UserError, match=message):
        drawn(tmp_path, small_options(clips), *arguments)
