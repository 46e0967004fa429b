"""Training from an options file: it learns, resumes exactly, and stops without losing anything."""

import re
import signal
from pathlib import Path

import pytest
import torch
from synthetic import make_clips
from training import assert_same_weights, rows, small_options, start, stop_at, weights, write_options

from vsr.engine.saving.checkpoints import states
from vsr.train import main
from vsr.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def train(folder, options, *arguments):
    return main(["-opt", str(write_options(folder, options)), *arguments])


def losses(folder, name):
    return [float(value) for _, key, value in rows(folder, name)[1:] if key == "train/loss"]


def test_training_lowers_the_loss_and_leaves_everything_behind(tmp_path, clips):
    rate = {"train__optim_g": {"type": "Adam", "lr": 4e-3}, "train__scheduler": None}
    options = small_options(clips, train__total_iter=30, logger__use_tb_logger=True, val__val_freq=15, **rate)
    options["datasets"]["train"]["batch_size_per_gpu"], options["train"]["accumulate"] = 1, 2
    assert train(tmp_path, options) == 0
    curve = losses(tmp_path, "small")
    assert len(curve) == 30
    assert sum(curve[-5:]) < 0.9 * sum(curve[:5])
    folder = tmp_path / "experiments" / "small"
    for name in ("models/net_g_30.pth", "training_states/30.state", "small.yml", "train.log", "metrics.csv"):
        assert (folder / name).is_file(), name
    assert list((folder / "tb_logger").iterdir())
    assert [row[0] for row in rows(tmp_path, "small") if row[1] == "val/clips/psnr"] == ["15", "30"]
    assert weights(tmp_path, "small", 30).keys() == {"params", "params_ema"}
    assert "1 process(es) × batch 1 × accumulate 2 = effective batch 2" in (folder / "train.log").read_text()


@pytest.mark.parametrize("workers", [0, 2])
def test_stopping_and_resuming_equals_not_stopping(tmp_path, clips, workers):
    common = {"datasets__train__num_worker_per_gpu": workers, "train__tsa_iter": 3, "val__val_freq": 2}
    train(tmp_path, small_options(clips, name="whole", **common))
    halves = small_options(clips, name="halves", logger__save_checkpoint_freq=2, **common)
    process = start(tmp_path, write_options(tmp_path, halves))
    code, _ = stop_at(process, "iter 4/6", signal.SIGKILL)
    assert code == -signal.SIGKILL
    train(tmp_path, halves, "--auto_resume")
    assert_same_weights(weights(tmp_path, "whole", 6), weights(tmp_path, "halves", 6))
    assert rows(tmp_path, "whole") == rows(tmp_path, "halves")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_stop_signal_saves_a_state_to_go_on_from(tmp_path, clips, number):
    train(tmp_path, small_options(clips, name="whole"))
    stopped = small_options(clips, name="stopped", datasets__train__num_worker_per_gpu=2)
    process = start(tmp_path, write_options(tmp_path, stopped))
    code, text = stop_at(process, "iter 2/6", number, to_workers=True)  # as Slurm and terminals do
    assert code == (130 if number is signal.SIGINT else 0)
    assert f"stopped by {number.name}" in text
    assert "Traceback" not in text
    train(tmp_path, stopped, "--auto_resume")
    assert_same_weights(weights(tmp_path, "whole", 6), weights(tmp_path, "stopped", 6))


def test_an_existing_experiment_is_not_overwritten(tmp_path, clips):
    options = small_options(clips, train__total_iter=2)
    train(tmp_path, options)
    before = weights(tmp_path, "small", 2)
    with pytest.raises(UserError, match="would be overwritten: resume it with --auto_resume"):
        train(tmp_path, options)
    assert train(tmp_path, options, "--auto_resume") == 0  # nothing left to do
    assert_same_weights(before, weights(tmp_path, "small", 2))


def test_only_the_fusion_is_trained_before_tsa_iter(tmp_path, clips):
    train(tmp_path, small_options(clips, train__tsa_iter=3, train__total_iter=4, logger__save_checkpoint_freq=1))
    first, second, third, fourth = (weights(tmp_path, "small", i)["params"] for i in (1, 2, 3, 4))
    for name in first:
        frozen = "fusion" not in name
        assert torch.equal(first[name], second[name]) == frozen, name
    assert not torch.equal(second["conv_first.weight"], third["conv_first.weight"])
    assert not torch.equal(third["conv_first.weight"], fourth["conv_first.weight"])


def test_the_average_follows_its_definition(tmp_path, clips):
    train(tmp_path, small_options(clips, train__total_iter=2, logger__save_checkpoint_freq=1))
    first, second = (weights(tmp_path, "small", i) for i in (1, 2))
    for name, value in second["params_ema"].items():
        torch.testing.assert_close(value, 0.9 * first["params_ema"][name] + 0.1 * second["params"][name])


def test_deformable_convolutions_have_their_own_rate(tmp_path, clips):
    options = small_options(clips, train__dcn_lr_mul=0.0, train__scheduler=None, logger__save_checkpoint_freq=1)
    train(tmp_path, options)
    first, second = (weights(tmp_path, "small", i)["params"] for i in (1, 2))
    for name in first:
        assert torch.equal(first[name], second[name]) or "dcn" not in name, name
    assert not torch.equal(first["conv_last.weight"], second["conv_last.weight"])


def test_summed_losses_are_also_shown_per_value(tmp_path, clips):
    mean, total = (
        small_options(clips, name=name, train__total_iter=1, train__pixel_opt={"type": "L1Loss", "reduction": name})
        for name in ("mean", "sum")
    )
    train(tmp_path, mean), train(tmp_path, total)
    values = {
        name: {key: float(value) for _, key, value in rows(tmp_path, name)[1:] if key.startswith("train/loss")}
        for name in ("mean", "sum")
    }
    assert values["sum"]["train/loss"] == pytest.approx(2 * 3 * 32 * 32 * values["mean"]["train/loss"], rel=1e-5)
    assert values["sum"]["train/loss_per_value"] == pytest.approx(values["mean"]["train/loss"], rel=1e-5)


def test_training_starts_from_pretrained_weights(tmp_path, clips):
    train(tmp_path, small_options(clips, name="first", train__total_iter=2))
    file = "experiments/first/models/net_g_2.pth"
    frozen = {"train__optim_g": {"type": "Adam", "lr": 0.0}, "train__total_iter": 1, "path__pretrain_network_g": file}
    train(tmp_path, small_options(clips, name="second", **frozen))
    assert_same_weights(
        {"params": weights(tmp_path, "first", 2)["params"]}, {"params": weights(tmp_path, "second", 1)["params"]}
    )
    train(tmp_path, small_options(clips, name="third", path__strict_load_g=False, network_g__with_tsa=False, **frozen))
    log = (tmp_path / "experiments" / "third" / "train.log").read_text()
    assert re.search(r"loaded .*: \d+ matched, \d+ missing, \d+ unexpected", log)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no weights", "is a text file, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "is a web page"),
        ({"params": torch.nn.Conv2d(1, 1, 1)}, r"holds Python objects \(torch.nn.modules.conv.Conv2d\)"),
        ({"settings": {}, "effective_batch": 3}, "is a training state; its weights are in models"),
        ({3: torch.zeros(3)}, "holds a tensor named 3; expected"),
        (b"", "not a file of weights"),
        ({"params": {"other.weight": torch.zeros(3)}}, "matches nothing in EDVR"),
        ({"epoch": 3}, "holds no parameters"),
        ([1], "expected a dictionary"),
    ],
)
def test_weight_files_that_are_none_are_told(tmp_path, clips, content, message):
    file = tmp_path / "weights.pth"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(UserError, match=message):
        train(tmp_path, small_options(clips, path__pretrain_network_g=str(file)))


def test_weights_that_fit_partly_are_refused_when_strict(tmp_path, clips):
    train(tmp_path, small_options(clips, name="first", train__total_iter=1))
    file = "experiments/first/models/net_g_1.pth"
    with pytest.raises(UserError, match="strict_load_g: false"):
        train(tmp_path, small_options(clips, path__pretrain_network_g=file, network_g__with_tsa=False))


def test_a_state_of_another_network_is_told(tmp_path, clips):
    train(tmp_path, small_options(clips, train__total_iter=1))
    bigger = small_options(clips, train__total_iter=2, network_g__num_feat=16)
    with pytest.raises(UserError, match="does not fit this network"):
        train(tmp_path, bigger, "--auto_resume", "--resume_mode", "new_schedule")


def test_a_gpu_that_is_not_there_is_told(tmp_path, clips, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="num_gpu: 1 asks for a GPU and none was found; num_gpu: 0 runs on the CPU"):
        train(tmp_path, small_options(clips, num_gpu=1))
    assert train(tmp_path, small_options(clips, num_gpu="auto", train__total_iter=1)) == 0


def test_a_frame_that_cannot_be_read_ends_training_with_its_name(tmp_path):
    broken = make_clips(tmp_path / "broken", num_clips=1, num_frames=3, gt_size=(48, 64))
    frame = broken.gt / "000" / "00000001.png"
    frame.write_bytes(frame.read_bytes()[:200])
    options = small_options(broken, datasets__train__num_worker_per_gpu=1)
    process = start(tmp_path, write_options(tmp_path, options))
    text = process.communicate(timeout=120)[0]
    assert process.returncode == 2
    assert "00000001.png" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(("val_freq", "saved"), [(4, 4), (None, 5)])
def test_a_frame_that_cannot_be_read_loses_no_iteration(tmp_path, val_freq, saved):
    """Validation meets it in iteration 4, training in 6. Once it is mended all is as if nothing had happened."""
    made = make_clips(tmp_path / "clips", num_clips=2, num_frames=6, gt_size=(48, 64))
    common = {"datasets__train__use_shuffle": False, "val__val_freq": val_freq}
    train(tmp_path, small_options(made, name="whole", **common))
    frame = made.lq / "001" / "00000005.png"
    content = frame.read_bytes()
    frame.write_bytes(content[:100])
    mended = small_options(made, name="mended", **common)
    with pytest.raises(UserError, match=r"00000005\.png is truncated"):
        train(tmp_path, mended)
    assert [file.stem for file in states(tmp_path / "experiments" / "mended")] == [str(saved)]
    frame.write_bytes(content)
    train(tmp_path, mended, "--auto_resume")
    assert_same_weights(weights(tmp_path, "whole", 6), weights(tmp_path, "mended", 6))
    assert rows(tmp_path, "whole") == rows(tmp_path, "mended")


def test_nothing_is_said_to_be_finished_where_nothing_was_to_do(tmp_path, clips):
    train(tmp_path, small_options(clips, train__total_iter=2))
    train(tmp_path, small_options(clips, train__total_iter=1), "--auto_resume", "--resume_mode", "new_schedule")
    log = (tmp_path / "experiments" / "small" / "train.log").read_text()
    assert log.endswith("nothing to train: this is iteration 2, train.total_iter is 1\n")


def test_a_loss_that_is_not_finite_ends_training(tmp_path, clips):
    with pytest.raises(UserError, match="training diverged"):
        train(tmp_path, small_options(clips, train__optim_g={"type": "Adam", "lr": 1e30}, train__max_bad_steps=3))


TWICE = """
from torch import nn
from vsr.contracts import Spec
from vsr.registry import register

@register("arch")
class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spec = Spec(scale=4)
        self.up = nn.ConvTranspose2d(3, 3, 2, 2)

    def forward(self, lq):
        return self.up(lq[:, 1])
"""


def test_a_network_of_another_scale_than_it_says_is_refused(tmp_path, clips):
    (tmp_path / "twice.py").write_text(TWICE)
    file = write_options(tmp_path, small_options(clips, imports=["twice"], network_g={"type": "Twice"}))
    process = start(tmp_path, file)
    text, _ = process.communicate()
    assert process.returncode == 2, text
    assert "network_g: Twice returns (1, 3, 32, 32) for an input of (1, 3, 3, 16, 16), but its spec" in text


def test_the_first_line_explains_the_training(train, clips):
    train(small_options(clips, train__total_iter=2))
    first = Path("experiments/small/train.log").read_text().splitlines()[0]
    assert "training EDVR for 2 iterations; weights, states and this log: experiments/small. Ctrl-C saves" in first
