"""A recurrent network, clip in and clip out, from one file: trained, validated, tested and resumed."""

import csv
import os
from pathlib import Path

import pytest
from training import assert_same_weights, rows, small_options, weights, write_options

from vsr import test
from vsr.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("in_tmp_path")


@pytest.fixture
def options(clips, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))

    def made(name="small", **changes):
        network = {"network_g": {"type": "RecurrentNetwork"}, "imports": ["recurrent_network"]}
        common = {"datasets__train__gt_frames": "all", "datasets__train__num_frame": 5, "val__val_freq": 2}
        options = small_options(clips, name=name, train__total_iter=4, **network, **{**common, **changes})
        del options["datasets"]["val"]["num_frame"]
        return options

    return made


def test_a_network_of_clips_trains_validates_tests_and_resumes(tmp_path, options, train):
    train(options("whole", logger__save_checkpoint_freq=2))
    train(options("resumed", path__resume_state="experiments/whole/training_states/2.state"))
    assert_same_weights(weights(tmp_path, "whole", 4), weights(tmp_path, "resumed", 4))
    losses = [float(row[2]) for row in rows(tmp_path, "whole") if row[1] == "train/loss"]
    assert len(losses) == 4 and losses[-1] < losses[0]
    assert [row[0] for row in rows(tmp_path, "whole") if row[1] == "val/clips/psnr"] == ["2", "4"]
    assert test.main(["-opt", str(write_options(tmp_path, options("whole")))]) == 0
    with open("results/whole/metrics.csv", newline="") as file:
        measured = list(csv.reader(file))
    assert len([row for row in measured if "000000" in "".join(row)]) >= 12, "every frame of two clips is measured"


def test_a_network_of_clips_needs_the_truth_of_every_frame(options, train):
    with pytest.raises(
        UserError, match=r"datasets\.train\.gt_frames: center, but RecurrentNetwork restores every frame"
    ):
        train(options(datasets__train__gt_frames="center"))
