"""Exact resume: at any moment, after any damage; and what may change between a state and the run that goes on."""

import os
import random
import re
import signal
import time

import pytest
import torch
from training import BATCH_NORM, assert_same_weights, kill, log_of, rows, small_options, start, weights, write_options

from vsr import config
from vsr.engine.saving.checkpoints import states
from vsr.engine.saving.resume import differences, same_validation
from vsr.engine.trainer import Trainer
from vsr.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def test_changed_options_are_shown_and_refused(tmp_path, clips, train):
    train(small_options(clips, train__total_iter=2))
    changed = small_options(clips, train__total_iter=4, train__optim_g={"type": "Adam", "lr": 5e-4})
    with pytest.raises(UserError) as caught:
        train(changed, "--auto_resume")
    for part in ("train.total_iter: 2 → 4", "train.optim_g.lr: 0.001 → 0.0005", "--resume_mode new_schedule"):
        assert part in str(caught.value)
    assert train(changed, "--auto_resume", "--resume_mode", "new_schedule") == 0
    rates = [float(row[2]) for row in rows(tmp_path, "small") if row[1] == "train/lr"]
    assert rates[1] > 9e-4 and rates[2] < 5e-4
    assert [row[0] for row in rows(tmp_path, "small") if row[1] == "train/loss"] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_network_that_draws_random_numbers_resumes_exactly(tmp_path, clips, train, workers):
    """Also those of a data loader that is made anew must not shift them."""
    network = {**BATCH_NORM, "network_g": {"type": "BatchNormNetwork", "dropout": 0.5}}
    network |= {"datasets__train__num_worker_per_gpu": workers, "val__val_freq": 1, "logger__save_checkpoint_freq": 2}
    train(small_options(clips, name="whole", train__total_iter=4, **network))
    state = {"path__resume_state": "experiments/whole/training_states/2.state"}
    train(small_options(clips, name="resumed", train__total_iter=4, **network, **state))
    assert_same_weights(weights(tmp_path, "whole", 4), weights(tmp_path, "resumed", 4))
    assert [row for row in rows(tmp_path, "whole") if row[0] in "34"] == rows(tmp_path, "resumed")[1:]


def test_weights_of_a_state_start_a_new_training(tmp_path, clips, train):
    train(small_options(clips, train__total_iter=2))
    state = "experiments/small/training_states/2.state"
    frozen = {"train__optim_g": {"type": "Adam", "lr": 0.0}, "train__total_iter": 1, "path__resume_state": state}
    train(small_options(clips, name="new", **frozen), "--resume_mode", "weights")
    first, new = weights(tmp_path, "small", 2)["params"], weights(tmp_path, "new", 1)["params"]
    assert_same_weights({"params": first}, {"params": new})


def test_weights_of_no_state_start_nothing(clips, train):
    """Else a training from random weights would pass for one from a state's."""
    for arguments in ([], ["--auto_resume"]):
        with pytest.raises(UserError, match=r"--resume_mode weights needs .*path\.resume_state=FILE"):
            train(small_options(clips), "--resume_mode", "weights", *arguments)


def test_going_back_needs_another_name(tmp_path, clips, train):
    """Or what was saved later would pass for the newest of the new training, and be kept instead of it."""
    train(small_options(clips, logger__save_checkpoint_freq=2))
    state = "experiments/small/training_states/2.state"
    with pytest.raises(UserError, match=r"2\.state is of iteration 2, .* has got to 6: .* --set name=NEW"):
        train(small_options(clips, path__resume_state=state))
    train(small_options(clips, name="branch", path__resume_state=state))
    assert_same_weights(weights(tmp_path, "small", 6), weights(tmp_path, "branch", 6))


def test_auto_resume_goes_on_where_an_experiment_is_not_where_it_came_from(tmp_path, clips, train):
    train(small_options(clips, name="other", train__total_iter=2))
    options = small_options(clips, path__resume_state="experiments/other/training_states/2.state", train__total_iter=4)
    train(options, "--auto_resume", "--resume_mode", "new_schedule")
    train(small_options(clips, path=options["path"]), "--auto_resume", "--resume_mode", "new_schedule")
    assert "resumed from experiments/small/training_states/4.state" in log_of(tmp_path)


def test_the_best_values_are_those_of_one_validation_set(tmp_path, clips, train):
    train(small_options(clips, train__total_iter=1, val__val_freq=1))
    longer = {"train__total_iter": 2, "datasets__val__cache_data": True}
    assert train(small_options(clips, **longer), "--auto_resume", "--resume_mode", "new_schedule") == 0
    metric = {"type": "calculate_psnr", "crop_border": 4}
    longer = {"train__total_iter": 3, "val__metrics": {"psnr": metric}}
    assert train(small_options(clips, **longer), "--auto_resume", "--resume_mode", "new_schedule") == 0
    found = re.findall(r"validation \d  clips/psnr (\S+)  \(best (\S+)\)", log_of(tmp_path))
    (first, _), (second, best), (third, last_best) = found
    assert float(best) == max(float(first), float(second))
    assert last_best == third, "another border is another measure"


def test_another_effective_batch_is_a_change(clips, train):
    train(small_options(clips, train__total_iter=1))
    with pytest.raises(UserError, match="effective batch: 2 → 4"):
        train(small_options(clips, train__total_iter=1, datasets__train__batch_size_per_gpu=4), "--auto_resume")


@pytest.mark.parametrize("order", [[0], [1, 0]])
def test_other_samples_are_a_change(tmp_path, clips, train, order):
    """A list may move, but not name other clips, nor the same ones in another order."""
    train(small_options(clips, train__total_iter=1))
    lines = clips.meta.read_text().splitlines()
    (tmp_path / "list.txt").write_text("\n".join(lines[number] for number in order))
    options = small_options(clips, datasets__train__meta_info_file="list.txt", train__total_iter=1)
    with pytest.raises(UserError, match=r"changed since .*1\.state was written:\n  datasets\.train: \d+ samples, list"):
        train(options, "--auto_resume")
    assert train(options, "--auto_resume", "--resume_mode", "new_schedule") == 0
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n\n")
    assert train(options, "--auto_resume") == 0, "it is the list that the state was made with"


def test_options_that_change_nothing_computed_may_change():
    former = {
        "name": "a",
        "num_gpu": 1,
        "datasets": {"train": {"num_worker_per_gpu": 1, "gt_size": 32}, "val": {"a": 1}},
    }
    current = {"name": "b", "num_gpu": 0, "datasets": {"train": {"num_worker_per_gpu": 4, "gt_size": 64}, "val": {}}}
    assert differences(former, current) == ["datasets.train.gt_size: 32 → 64"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_state_falls_back_to_the_one_before(tmp_path, clips, train, damage):
    train(small_options(clips, name="whole"))
    options = small_options(clips, train__total_iter=6, logger__save_checkpoint_freq=2)
    train(options)
    newest = tmp_path / "experiments" / "small" / "training_states" / "6.state"
    content = bytearray(newest.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 255
    newest.write_bytes(b"" if damage == "empty" else content[: len(content) // 2] if damage == "cut" else content)
    train(options, "--auto_resume")
    assert "6.state is damaged, or not a file of weights" in log_of(tmp_path)
    assert "resumed from experiments/small/training_states/4.state" in log_of(tmp_path)
    assert_same_weights(weights(tmp_path, "whole", 6), weights(tmp_path, "small", 6))


def test_a_weight_file_is_no_state(clips, train):
    train(small_options(clips, train__total_iter=1))
    with pytest.raises(UserError, match="is not a training state"):
        train(small_options(clips, name="other", path__resume_state="experiments/small/models/net_g_1.pth"))


def test_only_the_newest_states_and_every_so_many_are_kept(tmp_path, clips, train):
    keep = {"logger__keep_states": 2, "logger__keep_state_every": 3, "logger__save_checkpoint_freq": 1}
    train(small_options(clips, train__total_iter=8, datasets__val=None, **keep))
    assert [int(file.stem) for file in states(tmp_path / "experiments" / "small")] == [8, 7, 6, 3]
    assert len(list((tmp_path / "experiments" / "small" / "models").glob("*.pth"))) == 8


@pytest.mark.parametrize(("kills", "iterations"), [(6, 60), pytest.param(25, 200, marks=pytest.mark.slow)])
def test_killing_at_random_moments_changes_nothing(tmp_path, clips, train, kills, iterations):
    """Every iteration writes a state, so that many kills fall into a write."""
    common = {"train__total_iter": iterations, "logger__save_checkpoint_freq": 1, "val__val_freq": 7}
    common["train__tsa_iter"] = 20
    train(small_options(clips, name="whole", **common))
    options = small_options(clips, name="killed", datasets__train__num_worker_per_gpu=1, **common)
    file, moments, killed = write_options(tmp_path, options), random.Random(0), 0
    for _ in range(kills):
        process = start(tmp_path, file, "--auto_resume")
        for line in process.stdout:
            if "resumed" in line or "from iteration" in line:
                break
        time.sleep(moments.uniform(0, 0.4))
        kill(process)
        killed += process.returncode == -signal.SIGKILL
    assert killed > kills / 2, "it was not over before"
    process = start(tmp_path, file, "--auto_resume")
    text = process.communicate(timeout=300)[0]
    assert process.returncode == 0, text
    assert_same_weights(weights(tmp_path, "whole", iterations), weights(tmp_path, "killed", iterations))
    assert rows(tmp_path, "whole") == rows(tmp_path, "killed")
    assert not list((tmp_path / "experiments" / "killed").rglob("*.tmp")), "a killed write leaves its temporary file"


def test_a_validation_that_is_repeated_is_recorded_once(tmp_path, clips, train):
    """A state is saved before a validation that is due with it: killed after that, training resumes from there."""
    options = {"train__total_iter": 4, "logger__save_checkpoint_freq": 2, "val__val_freq": 2}
    train(small_options(clips, name="whole", **options))
    train(small_options(clips, name="killed", **options))
    folder = tmp_path / "experiments" / "killed"
    (folder / "training_states" / "4.state").unlink()
    state = torch.load(folder / "training_states" / "2.state", weights_only=True)
    state["progress"] |= {"last_validation": 0, "best": {}}
    torch.save(state, folder / "training_states" / "2.state")
    train(small_options(clips, name="killed", **options), "--auto_resume")
    assert rows(tmp_path, "whole") == rows(tmp_path, "killed")
    assert_same_weights(weights(tmp_path, "whole", 4), weights(tmp_path, "killed", 4))


def test_a_stop_while_a_resumed_training_validates_first_is_kept(tmp_path, clips, train, monkeypatch):
    """The stop came between the last step and its validation, and another during that validation."""
    measured = Trainer.validate

    def stopped(trainer, record, stop):
        os.kill(os.getpid(), signal.SIGINT)
        return measured(trainer, record, stop)

    options = small_options(clips, train__total_iter=2, val__val_freq=2)
    for _ in range(2):
        monkeypatch.setattr(Trainer, "validate", stopped)
        with pytest.raises(SystemExit) as end:
            train(options, "--auto_resume")
        assert end.value.code == 130
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert train(options, "--auto_resume") == 0
    assert [row[0] for row in rows(tmp_path, "small") if row[1] == "val/clips/psnr"] == ["2"]


def test_a_number_spelt_otherwise_is_no_change(tmp_path, clips):
    """States hold resolved options, whose numbers are numbers."""

    def resolved(lr, border):
        options = small_options(clips, train__optim_g__lr=lr)
        options["val"]["metrics"]["psnr"]["crop_border"] = border
        return config.load(write_options(tmp_path, options)).resolved

    before = resolved("1e-3", "1e1")
    assert differences(before, resolved(0.001, 10)) == []
    assert differences(before, resolved(0.002, 10)) == ["train.optim_g.lr: 0.001 → 0.002"]
    assert same_validation(before, resolved(0.001, 10))
    assert not same_validation(before, resolved(0.001, 11))
