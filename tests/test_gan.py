"""A GAN: two players, each with its optimiser, losses and files (gan_trainer.py, one file with one decorator)."""

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from training import assert_same_weights, log_of, rows, small_options, start, stop_at, write_options

pytestmark = pytest.mark.usefixtures("in_tmp_path")


@pytest.fixture
def options(clips, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    optimizer = {"train__optim_d": {"type": "Adam", "lr": 1e-3}}

    def made(name, **changes):
        return small_options(clips, name=name, imports=["gan_trainer"], trainer="GANTrainer", **optimizer, **changes)

    return made


def saved(folder, name, player, iteration):
    return torch.load(folder / f"experiments/{name}/models/net_{player}_{iteration}.pth", weights_only=True)


def test_a_killed_gan_resumes_exactly(tmp_path, options, train):
    """Both networks, their moments, BatchNorm's means and the discriminator's dropout."""
    common = {"train__accumulate": 2, "logger__save_checkpoint_freq": 2, "val__val_freq": 3}
    train(options("whole", **common))
    process = start(tmp_path, write_options(tmp_path, options("killed", **common)))
    code, text = stop_at(process, "iter 4/6", signal.SIGKILL)
    assert code == -signal.SIGKILL, text
    train(options("killed", **common), "--auto_resume")
    for player in ("g", "d"):
        assert_same_weights(saved(tmp_path, "whole", player, 6), saved(tmp_path, "killed", player, 6))
    assert rows(tmp_path, "whole") == rows(tmp_path, "killed")


def test_each_players_losses_train_that_player_only(tmp_path, options, train):
    switched_off = {"train__adversarial": 100.0, "train__discriminator": 0.0, "logger__save_checkpoint_freq": 1}
    train(options("small", train__total_iter=2, **switched_off))
    first, second = (saved(tmp_path, "small", "d", iteration)["params"] for iteration in (1, 2))
    for name in first:
        assert torch.equal(first[name], second[name]) or "running" in name or "num_batches" in name, name
    first, second = (saved(tmp_path, "small", "g", iteration)["params"] for iteration in (1, 2))
    assert not torch.equal(first["conv_last.weight"], second["conv_last.weight"])


def test_every_named_loss_is_logged(tmp_path, options, train):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(options("small", train__total_iter=1, datasets__val=None, logger__use_tb_logger=True))
    board = EventAccumulator(str(tmp_path / "experiments/small/tb_logger"))
    board.Reload()
    shown = {name: board.Scalars(f"train/loss/{name}")[0].value for name in ("pixel", "adversarial", "real", "fake")}
    assert board.Scalars("train/loss")[0].value == pytest.approx(sum(shown.values()), rel=1e-5)
    assert f"pixel {shown['pixel']:.4g}, adversarial {shown['adversarial']:.4g}" in log_of(tmp_path)


def test_old_weights_of_all_players_are_deleted_together(tmp_path, options, train):
    train(options("small", train__total_iter=3, logger__save_checkpoint_freq=1, logger__keep_weights=1))
    files = {file.name for file in (tmp_path / "experiments/small/models").iterdir()}
    assert files == {f"net_{player}_3.{kind}" for player in "gd" for kind in ("pth", "safetensors")}
    weights = load_file(tmp_path / "experiments/small/models/net_g_3.safetensors")
    assert_same_weights({"params_ema": weights}, {"params_ema": saved(tmp_path, "small", "g", 3)["params_ema"]})
    with safe_open(tmp_path / "experiments/small/models/net_g_3.safetensors", "pt") as file:
        about = file.metadata()
    assert about["vsr.iteration"] == "3" and about["vsr.scale"] == "4"
    assert '"type": "EDVR"' in about["vsr.network"]
