"""Losses as a named sum, each with its own reduction; pixel_opt is the loss pixel."""

import pytest
import torch
from training import log_of, rows, small_options, write_options

from vsr import config
from vsr.engine.players import Turn, check_scalars
from vsr.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("in_tmp_path")
TOTAL = {"type": "L1Loss", "reduction": "sum"}
MEAN = {"type": "MSELoss", "loss_weight": 100.0}


def first_loss(folder, name):
    return next(float(value) for _, key, value in rows(folder, name)[1:] if key == "train/loss")


def test_each_loss_keeps_its_reduction_however_a_batch_is_split(tmp_path, clips, train):
    losses = {"train__losses": {"absolute": TOTAL, "squared": MEAN}, "train__total_iter": 1, "datasets__val": None}
    whole = small_options(clips, name="whole", datasets__train__batch_size_per_gpu=4, **losses)
    parts = small_options(clips, name="parts", train__accumulate=2, **losses)
    for options in (whole, parts):
        del options["train"]["pixel_opt"]
        train(options)
    assert first_loss(tmp_path, "parts") == pytest.approx(first_loss(tmp_path, "whole"), rel=1e-5)
    named = {key: float(value) for _, key, value in rows(tmp_path, "whole")[1:] if key.startswith("train/loss")}
    parts = named["train/loss/absolute"] + named["train/loss/squared"]
    assert named["train/loss"] == pytest.approx(parts)
    assert "absolute " in log_of(tmp_path, "whole") and "squared " in log_of(tmp_path, "whole")


def test_pixel_opt_is_the_loss_pixel(tmp_path, clips):
    options = small_options(clips, train__pixel_opt=TOTAL, train__losses={"squared": MEAN})
    loaded = config.load(write_options(tmp_path, options))
    assert not any("pixel_opt" in note for note in loaded.notes)
    assert list(loaded.train.losses) == ["pixel", "squared"]
    options["train"]["losses"]["pixel"] = MEAN
    with pytest.raises(
        UserError, match=r"train\.pixel_opt is read as train\.losses\.pixel, and both .*`pixel_opt: ~` removes"
    ):
        config.load(write_options(tmp_path, options))


def test_a_training_without_losses_is_told(tmp_path, clips):
    options = small_options(clips)
    del options["train"]["pixel_opt"]
    with pytest.raises(UserError, match=r"train\.losses: missing"):
        config.load(write_options(tmp_path, options))
    options["train"]["losses"] = {}
    with pytest.raises(UserError, match=r"train\.losses: empty; name one"):
        config.load(write_options(tmp_path, options))


def test_a_loss_that_is_a_map_is_named():
    check_scalars(Turn("g", {"pixel": torch.tensor(1.0), "edge": torch.ones(1)}))
    with pytest.raises(UserError, match=r"the loss 'edge' returns \(1, 3, 8, 8\), not one number: return its mean"):
        check_scalars(Turn("g", {"pixel": torch.tensor(1.0), "edge": torch.ones(1, 3, 8, 8)}))
