"""A recurrent network, clip in and clip out, from one file: trained, validated, tested and resumed."""

import csv
import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn
from training import assert_same_weights, rows, small_options, weights, write_options

from vsr import config, test
from vsr.contracts import Spec
from vsr.evaluation.plan import BothDirections
from vsr.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("in_tmp_path")


@pytest.fixture
def options(clips, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))

    def made(name="small", **changes):
        network = {"network_g": {"type": "RecurrentNetwork"}, "imports": ["recurrent_network"]}
        common = {"datasets__train__gt_frames": "all", "datasets__train__num_frame": 5, "val__val_freq": 2}
        common["train__total_iter"] = 4
        options = small_options(clips, name=name, **{**network, **common, **changes})
        (options["datasets"].get("val") or {}).pop("num_frame", None)
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


def results(folder, options, **changes):
    """Trains nothing; returns metrics.json of the first training's weights under other options of ``val``."""
    changed = options("whole", **{f"val__{key}": value for key, value in changes.items()})
    assert test.main(["-opt", str(write_options(folder, changed))]) == 0
    return json.loads((folder / "results/whole/metrics.json").read_text())


def test_segments_both_directions_and_centre_frames_are_options_and_named_in_the_protocol(tmp_path, options, train):
    train(options("whole", train__ema_decay=0.9))
    expected = {
        "clips-rgb": {},
        "clips-rgb+segment3w1a2": {"segment": 3, "warm_up": 1, "look_ahead": 2},
        "clips-rgb+flipseq": {"flip_seq": True},
        "clips-rgb+center": {"center_frame_only": True},
        "clips-rgb+segment1w1a1+center": {"center_frame_only": True, "segment": 1, "warm_up": 1, "look_ahead": 1},
        "clips-rgb+tile8o4": {"tile": 8, "tile_overlap": 4},
        "clips-rgb+bf16": {"precision": "bf16"},
    }
    psnr = {}
    for name, changes in expected.items():
        found = results(tmp_path, options, **changes)
        assert found["weights_entry"] == "params_ema"
        entry = next(iter(found["datasets"].values()))
        assert entry["protocols"]["psnr"]["name"] == name
        assert {key: entry["calls"][key] for key in changes} == changes
        psnr[name] = entry["scores"]["network"]["mean"]["psnr"]
    assert len(set(psnr.values())) == 7
    assert "(EMA)" in (tmp_path / "results/whole/test.log").read_text()
    lines = [line for line in (tmp_path / "experiments/whole/train.log").read_text().splitlines() if "(best" in line]
    assert lines and all(line.endswith("of the average (EMA 0.9)") for line in lines)


def test_segments_with_the_network_s_whole_memory_change_nothing(tmp_path, options, train):
    """The network looks back only: a segment that reads all frames before it gives the same."""
    train(options("whole"))
    whole = results(tmp_path, options)
    segments = results(tmp_path, options, segment=2, warm_up=100, look_ahead=0)
    for found in (whole, segments):
        found["scores"] = [entry["scores"]["network"] for entry in found["datasets"].values()]
    assert whole["scores"] == segments["scores"]


def test_both_directions_are_the_mean_of_a_clip_and_its_reverse():
    class Sums(nn.Module):
        spec = Spec(reads="clip")

        def forward(self, lq):
            return lq.cumsum(1)

    lq = torch.arange(3.0).reshape(1, 3, 1, 1, 1).expand(1, 3, 3, 2, 2)
    there, back = lq.cumsum(1), torch.cat([lq, lq.flip(1)], 1).cumsum(1)[:, 3:].flip(1)
    assert torch.equal(BothDirections(Sums())(lq), (there + back) / 2)


@pytest.mark.parametrize(("key", "value"), [("flip_seq", True), ("segment", 5)])
def test_options_for_clips_are_refused_for_windows(tmp_path, clips, key, value):
    options = small_options(clips, **{f"val__{key}": value})
    with pytest.raises(UserError, match=rf"val\.{key}: .*, but EDVR does not restore clips: leave it out"):
        config.load(write_options(tmp_path, options))


def test_frozen_parameters_thaw_in_their_iteration_also_after_resuming(tmp_path, options, train):
    """BasicSR freezes in iteration 1 exactly, so that a training resumed below fix_flow trains at once."""
    rules = {"train__parameters": [{"match": "conv", "from_iter": 4}], "logger__save_checkpoint_freq": 1}
    common = {**rules, "logger__keep_states": 9, "train__total_iter": 5, "val__val_freq": None}
    train(options("whole", **common))
    for iteration in (2, 3, 4):
        state = f"experiments/whole/training_states/{iteration}.state"
        train(options(f"from_{iteration}", path__resume_state=state, **common))
        assert_same_weights(weights(tmp_path, "whole", 5), weights(tmp_path, f"from_{iteration}", 5))
    frozen = [weights(tmp_path, "whole", iteration)["params"]["conv.weight"] for iteration in (1, 2, 3)]
    assert all(torch.equal(frozen[0], other) for other in frozen)
    assert not torch.equal(frozen[0], weights(tmp_path, "whole", 4)["params"]["conv.weight"])


def test_what_a_constructor_froze_is_never_trained(tmp_path, options, train):
    """RealBasicVSR's flow network, under a rule that would train everything."""
    network = {"type": "RealBasicVSRNet", "mid_channels": 4, "num_propagation_blocks": 1, "num_cleaning_blocks": 1}
    rules = [{"match": "", "from_iter": 0, "lr_mul": 2.0}]
    changes = {"datasets__val": None, "train__total_iter": 2, "logger__save_checkpoint_freq": 1}
    train(options(network_g=network, train__parameters=rules, **changes))
    first, second = (weights(tmp_path, "small", iteration)["params"] for iteration in (1, 2))
    changed = {name for name, value in second.items() if not value.equal(first[name])}
    assert changed == {name for name in first if not name.startswith("basicvsr.spynet.")}


def test_a_clip_too_short_for_the_network_is_refused_before_training(options, train):
    changes = {"datasets__train__num_frame": 3, "network_g": {"type": "IconVSR", "num_feat": 8, "num_block": 1}}
    message = r"datasets\.train\.num_frame: 3, but IconVSR reads clips of at least 5 frames"
    with pytest.raises(UserError, match=message):
        train(options(**changes))
