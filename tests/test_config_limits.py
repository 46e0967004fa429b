"""Limits of numbers, as signatures mark them, and values that follow from other keys of the file."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from options_files import change, mistakes, write

from vsr import config, registry
from vsr.config.options import DistOptions, LoaderOptions, VisdomOptions
from vsr.config.schema import Report, check_component, check_value, resolved
from vsr.engine.saving.resume import differences
from vsr.registry import Positive, Shared, above, at_least, at_most, below
from vsr.utils.errors import refuse


@pytest.mark.parametrize(
    ("annotation", "allowed", "refused", "expected"),
    [
        (Annotated[int, at_least(1)], 1, 0, "a whole number of at least 1"),
        (Annotated[float, above(0)], 1e-9, 0.0, "a number above 0"),
        (Annotated[float, at_least(0), below(1)], 0, 1.0, "a number of at least 0 and below 1"),
        (
            Annotated[int, at_least(1), at_most(65535)],
            65535,
            65536,
            "a whole number of at least 1 and of at most 65535",
        ),
        (Positive | Literal["auto"], "auto", 0, "a whole number of at least 1 or 'auto'"),
        (Positive | None, None, 0, "a whole number of at least 1"),
        (list[Positive], [1, 2], [1, 0], "a whole number of at least 1"),
    ],
)
def test_a_number_beyond_its_limit_is_refused(annotation, allowed, refused, expected):
    report = Report()
    assert check_value(allowed, annotation, "key", report) == allowed
    assert not report.mistakes
    assert check_value(refused, annotation, "key", report) in (None, [1, None])
    assert f": expected {expected}, got " in report.mistakes[0]


@pytest.mark.parametrize("section", [DistOptions, VisdomOptions])
@pytest.mark.parametrize("port", [0, -1, 65536, 99999999])
def test_a_port_beyond_its_limits_is_refused(section, port):
    report = Report()
    assert check_value({"port": port}, section, "section", report) is None
    assert "section.port: expected a whole number of at least 1 and of at most 65535, got" in report.mistakes[0]


@pytest.mark.parametrize(
    ("kind", "mapping", "mistake"),
    [
        ("arch", {"type": "EDVR", "num_feat": 0}, "part.num_feat: expected a whole number of at least 1, got 0"),
        ("encoder", {"type": "ResNetEncoder", "num_levels": 5}, "part.num_levels: expected 1 or 2 or 3 or 4, got 5"),
        ("encoder", {"type": "UNetEncoder", "channels": [3, 0]}, "part.channels[1]: expected a whole number of at lea"),
        ("loss", {"type": "L1Loss", "loss_weight": -1}, "part.loss_weight: expected a number of at least 0, got -1"),
        ("loss", {"type": "CharbonnierLoss", "eps": 0}, "part.eps: expected a number above 0, got 0"),
        ("memory", {"type": "pixwise", "memory_size": 0}, "part.memory_size: expected a whole number of at least 1"),
        ("memory", {"type": "pixsim", "hops": 0}, "part.hops: expected a whole number of at least 1, got 0"),
        ("memory", {"type": "pixsim", "crop": -1}, "part.crop: expected a whole number of at least 0, got -1"),
        ("memory", {"type": "pixsim", "flat2d": {"stride": 3}}, "part.flat2d.stride: expected 1 or 2, got 3"),
        ("dataset", {"type": "HumanEvaDataset", "dataroot": "", "list_file": "", "width": 0}, "part.width: expected a"),
        ("metric", {"type": "calculate_psnr", "crop_border": -1}, "part.crop_border: expected a whole number of at"),
        ("scheduler", {"type": "CosineAnnealingRestartLR", "periods": [0]}, "part.periods[0]: expected a whole number"),
        ("scheduler", {"type": "MultiStepRestartLR", "milestones": [1], "gamma": -2}, "part.gamma: expected a number"),
    ],
)  # fmt: skip
def test_components_mark_their_limits(kind, mapping, mistake):
    report = Report()
    assert check_component(mapping, kind, "part", report) is None
    assert len(report.mistakes) == 1 and report.mistakes[0].startswith(mistake)


def test_five_wrong_values_in_one_section_are_five_mistakes():
    report = Report()
    values = {"batch_size_per_gpu": 0, "num_worker_per_gpu": -1, "dataset_enlarge_ratio": 0, "num_prefetch_queue": 0}
    assert check_value({**values, "pin_memory": 3}, LoaderOptions, "datasets.train", report) is None
    assert [line.split(":")[0] for line in report.mistakes] == [
        f"datasets.train.{key}" for key in [*values, "pin_memory"]
    ]


@dataclass(frozen=True)
class Pair:
    first: int
    second: int

    def __post_init__(self) -> None:
        mistakes = ["first 3 is odd"] * (self.first == 3) + ["second.deep: 5 is odd"] * (self.second == 5)
        refuse([*mistakes, "together they are 8"] if self.first + self.second == 8 else mistakes)


def test_each_line_of_a_refusal_is_a_mistake_with_its_key():
    report = Report()
    assert check_value({"first": 3, "second": 5}, Pair, "pair", report) is None
    assert report.mistakes == ["pair.first: 3 is odd", "pair.second.deep: 5 is odd", "pair: together they are 8"]


def own_loss(sr, gt, scale: float = 0.5, given: Annotated[int, Shared("scale")] = 1):
    return (sr - gt).abs().mean() * scale


def test_the_scale_of_the_file_reaches_only_parameters_that_ask_for_it(tmp_path, tree, monkeypatch):
    """A loss may have a scale of its own."""
    monkeypatch.setitem(registry._components["loss"], "OwnLossWithAScale", own_loss)
    change(tree, "train.pixel_opt", {"type": "OwnLossWithAScale"})
    change(tree, "network_g", {"type": "EDVR", "num_feat": 8, "hr_in": True, "with_predeblur": True})
    for phase in ("train", "val"):
        change(tree, f"datasets.{phase}.dataroot_lq", tree["datasets"][phase]["dataroot_gt"])
    options = config.load(write(tmp_path, tree | {"scale": 1.0}))
    loss = options.resolved["train"]["losses"]["pixel"]
    assert (loss["scale"], loss["given"]) == (0.5, 1)
    assert options.resolved["datasets"]["train"]["scale"] == 1
    assert "datasets.train.scale: 1 (from scale)" in options.changes


def test_an_invalid_shared_value_is_reported_once(tmp_path, tree):
    text = mistakes(tmp_path, tree | {"scale": "four"})
    assert text.startswith("1 mistake in") and "scale: expected a whole number, got 'four'" in text


def test_resolved_options_hold_all_defaults_as_plain_data(tmp_path, tree):
    change(tree, "train.optim_g.lr", "1e-4")
    plain = config.load(write(tmp_path, tree)).resolved
    assert plain["train"]["optim_g"] == {
        "type": "Adam", "lr": 1e-4, "weight_decay": 0.0, "betas": [0.9, 0.999], "eps": 1e-8, "fused": None,
        "amsgrad": False,
    }  # fmt: skip
    assert plain["val"]["metrics"]["psnr"] == {"type": "calculate_psnr", "crop_border": 0, "test_y_channel": False}
    assert plain["datasets"]["val"]["name"] == "clips" and plain["datasets"]["train"]["use_shuffle"] is True
    assert (plain["trainer"], plain["network_g"]["num_frame"]) == ("ScratchTrainer", 5)
    again = config.load(write(tmp_path, plain.to_dict()))
    assert again.resolved == plain, "they are an options file"
    assert resolved((1, {"a": (2,)})) == [1, {"a": [2]}]


def test_resolved_options_are_attributes_that_cannot_be_misspelt(tmp_path, tree):
    values = config.load(write(tmp_path, tree)).resolved
    assert values.network_g.num_feat == 8 and type(values.to_dict()["network_g"]) is dict
    with pytest.raises(KeyError, match="num_feats"):
        _ = values.network_g.num_feats
    with pytest.raises(KeyError, match="num_feats"):
        values.network_g.num_feats = 16


def test_a_default_that_is_written_out_is_no_difference_and_a_changed_default_is_one(tmp_path, tree):
    """A state was refused with "None → False"."""
    before = config.load(write(tmp_path, tree)).resolved
    change(tree, "datasets.train.use_hflip", False)
    change(tree, "train.ema_decay", 0)
    change(tree, "network_g.num_frame", 5)
    after = config.load(write(tmp_path, tree)).resolved
    assert differences(before, after) == []
    after["train"]["ema_decay"] = 0.9  # as if the code had another default now
    assert differences(before, after) == ["train.ema_decay: 0.0 → 0.9"]
