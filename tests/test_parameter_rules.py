"""Parameter rules: which parameters are trained, when and how fast; and the old keys that are read as rules."""

import re

import pytest
import torch
from training import log_of, predictor_options, rows, small_options, weights, write_options
from videos import make_humaneva

from vsr import config
from vsr.config.spellings import modernise
from vsr.engine.optim.rules import ParameterRule, training_of
from vsr.train import main
from vsr.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def rule(match, **fields):
    return ParameterRule(match, **fields)


@pytest.mark.parametrize(
    ("rules", "name", "iteration", "expected"),
    [
        ([], "a", 1, (True, 1.0)),
        ([rule("spynet", lr_mul=0.25, from_iter=5)], "spynet.conv", 4, (False, 0.25)),
        ([rule("spynet", lr_mul=0.25, from_iter=5)], "spynet.conv", 5, (True, 0.25)),
        ([rule("spynet", lr_mul=0.25, from_iter=5)], "conv", 1, (True, 1.0)),
        ([rule("", from_iter=9), rule("fusion", from_iter=0)], "fusion.conv", 1, (True, 1.0)),
        ([rule("", from_iter=9), rule("fusion", lr_mul=0.5)], "fusion.conv", 8, (False, 0.5)),
        ([rule("dcn", lr_mul=0.1), rule("dcn", lr_mul=0.2)], "a.dcn", 1, (True, 0.2)),
        ([rule("a", lr_mul=0)], "a", 1, (False, 0.0)),
        ([rule("a", frozen=True), rule("ab", frozen=False)], "ab", 1, (True, 1.0)),
        ([rule(r"^layer1\.", frozen=True)], "encoder.layer1.x", 1, (True, 1.0)),
    ],
)
def test_each_field_is_that_of_the_last_rule_that_gives_it(rules, name, iteration, expected):
    assert training_of(rules, name, iteration) == expected


def test_rules_freeze_thaw_and_slow_down(tmp_path, clips, train):
    rules = [{"match": "conv_last", "from_iter": 3}, {"match": "conv_first", "frozen": True}]
    rules += [{"match": "dcn", "lr_mul": 0.5}, {"match": r"conv_hr\.weight", "lr_mul": 0}]
    options = {"train__parameters": rules, "train__total_iter": 3, "train__scheduler": None}
    train(small_options(clips, logger__save_checkpoint_freq=1, datasets__val=None, **options))
    first, second, third = (weights(tmp_path, "small", i)["params"] for i in (1, 2, 3))
    assert torch.equal(first["conv_last.weight"], second["conv_last.weight"])
    assert not torch.equal(second["conv_last.weight"], third["conv_last.weight"])
    for name in ("conv_first.weight", "conv_hr.weight"):
        assert torch.equal(first[name], third[name])
    assert not torch.equal(first["conv_hr.bias"], third["conv_hr.bias"])
    state = torch.load(tmp_path / "experiments/small/training_states/3.state", weights_only=True)
    assert set(state["players"]["g"]["base_rates"]) == {1e-3, 5e-4, 0.0}


def test_the_log_has_the_rate_of_parameters_without_a_rule(tmp_path, clips, train):
    rules = [{"match": "conv_first", "lr_mul": 0.25}]  # the first parameters of the network
    train(small_options(clips, train__parameters=rules, train__total_iter=1, train__scheduler=None))
    assert [float(row[2]) for row in rows(tmp_path, "small") if row[1] == "train/lr"] == [1e-3]
    assert " lr 0.001 " in log_of(tmp_path, "small")
    assert re.search(r"note: datasets.train: \d+ samples of \d+ clips, from '.*' and '", log_of(tmp_path, "small"))


def test_moments_follow_their_parameters_into_other_groups(tmp_path, clips, train):
    """A new schedule may slow parameters down that were in one group with others."""
    options = small_options(clips, train__total_iter=2, datasets__val=None, train__scheduler=None)
    train(options)
    options["train"] |= {"total_iter": 3, "parameters": [{"match": "^conv_", "lr_mul": 0.0}, {"match": "conv_last"}]}
    options["train"]["parameters"][1]["lr_mul"] = 0.5
    train(options, "--auto_resume", "--resume_mode", "new_schedule")
    before, after = (
        torch.load(f"experiments/small/training_states/{i}.state", weights_only=True)["players"]["g"] for i in (2, 3)
    )
    assert before["moments"].keys() == after["moments"].keys() == before["network"].keys()
    for name, value in after["moments"].items():
        assert value["step"] == (2 if name.startswith("conv_") and "last" not in name else 3)
        if value["step"] == 2:
            assert torch.equal(value["exp_avg"], before["moments"][name]["exp_avg"]), name
    assert set(after["base_rates"]) == {1e-3, 5e-4, 0.0}


def test_a_rule_without_a_parameter_is_refused_by_check(tmp_path, clips):
    rules = [{"match": "dcn", "lr_mul": 0.5}, {"match": "spynt", "frozen": True}]
    file = write_options(tmp_path, small_options(clips, train__parameters=rules))
    with pytest.raises(UserError, match=r"train\.parameters\[1\]\.match: 'spynt' matches no parameter of EDVR; their"):
        main(["-opt", str(file), "--check"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"match": "("}, "train.parameters[0].match: '(' is not a regular expression"),
        ({"match": "a", "lr_mul": -1}, "train.parameters[0].lr_mul: expected a number of at least 0, got -1"),
        ({"match": "a"}, "the rule for 'a' has no effect: give lr_mul, from_iter or frozen"),
        ({"lr_mul": 1}, "train.parameters[0].match: missing"),
        ({"match": "a", "freeze": True}, "train.parameters[0].freeze: unknown key; did you mean 'frozen'?"),
    ],
)
def test_wrong_rules_are_told(tmp_path, clips, given, message):
    with pytest.raises(UserError) as caught:
        config.load(write_options(tmp_path, small_options(clips, train__parameters=[given])))
    assert message in str(caught.value)


OLD_KEYS = [
    ({"tsa_iter": 50}, [rule("", from_iter=50), rule("fusion", from_iter=0)]),
    ({"tsa_iter": 0, "dcn_lr_mul": 1}, []),
    ({"dcn_lr_mul": 0.1}, [rule("dcn", lr_mul=0.1)]),
    ({"flow_lr_mul": 0.25, "fix_flow": 7}, [rule("spynet", lr_mul=0.25), rule("spynet|edvr", from_iter=7)]),
    (
        {"dcn_lr_mul": 0.1, "parameters": [{"match": "dcn", "lr_mul": 0.2}]},
        [rule("dcn", lr_mul=0.1), rule("dcn", lr_mul=0.2)],
    ),
]


@pytest.mark.parametrize(("old", "rules"), OLD_KEYS)
def test_old_keys_are_read_as_rules(old, rules):
    tree = {"train": {**old}}
    notes = modernise(tree, {})
    assert [rule(**given) for given in tree["train"].get("parameters", [])] == rules
    assert len([note for note in notes if "read as train.parameters" in note]) == len(set(old) - {"parameters"}) * bool(
        rules
    )


def test_an_old_key_that_matches_nothing_is_quoted(tmp_path, clips):
    options = small_options(clips)
    options["train"] |= {
        "flow_lr_mul": 0.25,
        "fix_iter": 7,
        "tsa_iter": 3,
        "parameters": [{"match": "x1", "lr_mul": 0}],
    }
    with pytest.raises(UserError) as caught:
        config.load(write_options(tmp_path, options))
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert lines[0].startswith("3 mistakes in")
    assert lines[1].startswith("train.flow_lr_mul: 'spynet' matches no parameter of EDVR; their names begin")
    assert lines[2].startswith("train.fix_iter: 'spynet|edvr' matches no parameter of EDVR")
    assert lines[3].startswith("train.parameters[0].match: 'x1' matches no parameter of EDVR")


def test_rates_of_parts_are_read_as_factors(tmp_path):
    root = make_humaneva(tmp_path / "frames")
    options = predictor_options(root, train__lr={"encoder": 5e-4, "decoder": 1e-3, "memory": "2e-3"})
    rules = config.load(write_options(tmp_path, options)).train.parameters
    assert [training_of(rules, f"{part}.x", 1).factor for part in ("encoder", "sentence_encoder")] == [0.5, 0.5]
    assert [training_of(rules, f"{part}.x", 1).factor for part in ("decoder", "memory")] == [1.0, 2.0]
    options["train"]["optim_g"]["lr"] = 0.0
    with pytest.raises(UserError, match=r"train\.lr\.encoder is 0\.0005, but train\.optim_g\.lr, .* is 0"):
        config.load(write_options(tmp_path, options))


def test_a_freeze_ends_with_its_own_tsa_iter(tmp_path, clips):
    options = config.load(write_options(tmp_path, small_options(clips, trainer="FreezeTrainer", train__tsa_iter=4)))
    assert options.train.tsa_iter == 4 and options.train.parameters == []


def test_a_phase_is_announced_once(tmp_path, clips, train):
    train(small_options(clips, train__tsa_iter=3, datasets__val=None))
    assert log_of(tmp_path).count("parameters are trained") == 2


def test_a_training_of_all_parameters_does_not_repeat_their_number(tmp_path, clips, train, capsys):
    train(small_options(clips, datasets__val=None))
    assert "parameters are trained" not in log_of(tmp_path)
    line = "option network_g.num_feat: "
    assert log_of(tmp_path).count(line) == 1 and line not in capsys.readouterr().out
