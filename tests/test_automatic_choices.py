"""What ``auto`` chooses in ``train.amp``, ``train.channels_last`` and ``val.precision``."""

import pytest
import torch
from training import assert_same_weights, log_of, small_options, weights

from vsr.config.options import ValOptions
from vsr.engine import precision
from vsr.evaluation.plan import with_precision
from vsr.utils.distributed import Place
from vsr.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("in_tmp_path")
CPU = torch.device("cpu")


def state(tmp_path, name, iteration):
    file = tmp_path / "experiments" / name / "training_states" / f"{iteration}.state"
    return torch.load(file, weights_only=True)


def has_units(monkeypatch, answer):
    monkeypatch.setattr(precision, "has_bf16_units", lambda device: answer)


@pytest.mark.parametrize(("units", "name", "why"), [(True, "bf16", "computes in it"), (False, "off", "has no units")])
def test_amp_is_bf16_where_the_units_are(tmp_path, clips, train, monkeypatch, units, name, why):
    has_units(monkeypatch, units)
    train(small_options(clips, train__total_iter=1, train__amp="auto", datasets__val=None))
    assert f"train.amp: auto is {name}: this CPU {why}" in log_of(tmp_path)
    assert state(tmp_path, "small", 1)["chosen"] == {"amp": name, "channels_last": None}
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        train(small_options(clips, name="other", train__amp="fp16"))


@pytest.mark.parametrize("units", [True, False])
def test_resuming_keeps_what_amp_was(tmp_path, clips, train, monkeypatch, units):
    options = {"train__amp": "auto", "datasets__val": None, "logger__save_checkpoint_freq": 1}
    has_units(monkeypatch, units)
    train(small_options(clips, name="whole", train__total_iter=2, **options))
    train(small_options(clips, name="half", train__total_iter=2, **options))
    (tmp_path / "experiments/half/training_states/2.state").unlink()
    for file in (tmp_path / "experiments/half/models").glob("net_g_2.*"):
        file.unlink()
    has_units(monkeypatch, not units)
    train(small_options(clips, name="half", train__total_iter=2, **options), "--auto_resume")
    name = "bf16" if units else "off"
    assert f"train.amp: auto stays {name}, as when this training began" in log_of(tmp_path, "half")
    assert_same_weights(weights(tmp_path, "whole", 2), weights(tmp_path, "half", 2))


def test_resuming_where_the_former_type_is_impossible_is_refused(monkeypatch):
    has_units(monkeypatch, False)
    with pytest.raises(UserError, match=r"auto was bf16 when this training began\. train\.amp: bf16 needs a GPU of"):
        precision.kept_type("bf16", None, torch.device("cuda"))


@pytest.mark.parametrize("faster", [True, False])
def test_the_layout_is_measured_once_and_kept(tmp_path, clips, train, monkeypatch, faster):
    calls = []

    def measured(step, set_layout, place):
        before = torch.get_rng_state()
        step()
        assert torch.equal(torch.get_rng_state(), before)
        calls.append(place)
        return faster, "1 s against 2 s a step"

    monkeypatch.setattr("vsr.engine.step.is_faster_channels_last", measured)
    options = {"datasets__val": None, "logger__save_checkpoint_freq": 1}
    train(small_options(clips, train__total_iter=1, train__channels_last="auto", **options))
    assert f"auto is {'on' if faster else 'off'}: 1 s against 2 s a step" in log_of(tmp_path)
    assert state(tmp_path, "small", 1)["chosen"] == {"amp": None, "channels_last": faster}
    resumed = small_options(clips, train__total_iter=2, train__channels_last="auto", **options)
    train(resumed, "--auto_resume", "--resume_mode", "new_schedule")
    assert len(calls) == 1
    train(small_options(clips, name="given", train__total_iter=2, train__channels_last=faster, **options))
    assert_same_weights(weights(tmp_path, "small", 2), weights(tmp_path, "given", 2))


def test_both_layouts_are_measured():
    layouts, steps = [], []
    place = Place(CPU)

    def step():
        steps.append(layouts[-1])
        if not layouts[-1]:
            torch.randn(400, 400).matmul(torch.randn(400, 400)).svd()  # the slow one

    assert precision.is_faster_channels_last(step, layouts.append, place)[0]
    assert steps == [False, True, False, True]


@pytest.mark.parametrize(("units", "expected"), [(True, "bf16"), (False, "float32")])
def test_results_name_the_precision_that_auto_chose(monkeypatch, units, expected):
    has_units(monkeypatch, units)
    assert with_precision(ValOptions(precision="auto"), CPU).precision == expected
    assert with_precision(ValOptions(), CPU).precision == "float32"
