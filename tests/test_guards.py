"""Steps and validations that go wrong: skipped, undone, rolled back, or ended with a state and a remedy."""

import os
import re
import signal
from pathlib import Path

import pytest
import torch
from training import BATCH_NORM, assert_same_weights, log_of, rows, small_options, weights

from vsr.engine import loop
from vsr.engine.guards import OffsetGuard, is_out_of_memory
from vsr.engine.saving.checkpoints import states
from vsr.engine.trainers.variants import ScratchTrainer
from vsr.evaluation import validation
from vsr.ops import ModulatedDeformConvPack
from vsr.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def spoil(monkeypatch, iterations, error=None):
    """Makes the loss of some iterations not a number, or raise an error."""
    losses = ScratchTrainer.losses

    def spoiled(self, batch):
        for turn in losses(self, batch):
            if self.progress.iteration not in iterations:
                yield turn
            elif error is not None:
                raise error
            else:
                yield turn._replace(losses={name: value * float("nan") for name, value in turn.losses.items()})

    monkeypatch.setattr(ScratchTrainer, "losses", spoiled)


def test_a_bad_step_is_skipped_and_told(tmp_path, clips, train, monkeypatch):
    spoil(monkeypatch, {2})
    train(small_options(clips, train__total_iter=3, logger__save_checkpoint_freq=1))
    first, second, third = (weights(tmp_path, "small", i)["params"] for i in (1, 2, 3))
    assert_same_weights({"params": first}, {"params": second})
    assert not torch.equal(second["conv_last.bias"], third["conv_last.bias"])
    assert "iteration 2 skipped: loss nan" in log_of(tmp_path)


def test_nothing_remains_of_a_bad_step(tmp_path, clips, train, monkeypatch):
    """BatchNorm has taken its mean before the loss is known."""
    spoil(monkeypatch, {2})
    train(small_options(clips, train__total_iter=3, logger__save_checkpoint_freq=1, **BATCH_NORM))
    first, second, third = (weights(tmp_path, "small", i)["params"] for i in (1, 2, 3))
    assert_same_weights({"params": first}, {"params": second})
    assert second["head.norm.num_batches_tracked"] == 1 and third["head.norm.num_batches_tracked"] == 2


def test_nothing_remains_of_a_step_with_runaway_offsets(tmp_path, clips, train, monkeypatch):
    monkeypatch.setattr(OffsetGuard, "answer", lambda _, iteration: "skip" if iteration == 2 else "ok")
    guard = {"train__offset_guard": "skip", "train__offset_freq": 1, "logger__save_checkpoint_freq": 1}
    train(small_options(clips, train__total_iter=3, **guard, **BATCH_NORM))
    first, second, third = (weights(tmp_path, "small", i)["params"] for i in (1, 2, 3))
    assert_same_weights({"params": first}, {"params": second})
    assert third["head.norm.num_batches_tracked"] == 2


def test_many_bad_steps_end_training_with_the_batch(tmp_path, clips, train, monkeypatch):
    spoil(monkeypatch, range(3, 100))
    with pytest.raises(UserError, match="training diverged: 3 steps in a row"):
        train(small_options(clips, train__total_iter=20, train__max_bad_steps=3))
    (file,) = (tmp_path / "experiments" / "small").glob("bad_batch_5_rank0.pth")
    saved = torch.load(file, weights_only=True)
    assert saved["batches"][0]["lq"].shape == (2, 3, 3, 8, 8)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_running_out_of_memory_saves_a_state_and_tells_the_remedy(tmp_path, clips, train, monkeypatch, error):
    train(small_options(clips, name="whole"))
    with monkeypatch.context() as patch:
        spoil(patch, {4}, error)
        with pytest.raises(
            UserError, match=r"^Out of memory in iteration 4\. Try: .*train\.accumulate.*3\.state is saved"
        ):
            train(small_options(clips))
    train(small_options(clips, train__checkpointing=True), "--auto_resume")
    assert_same_weights(weights(tmp_path, "whole", 6), weights(tmp_path, "small", 6))


def test_memory_that_a_kernel_lacks_is_recognised(monkeypatch):
    """Our kernels pass on that an allocation failed as a RuntimeError; the allocator has counted it."""
    error, device = RuntimeError("aten::empty failed"), torch.device("cuda")
    for num_ooms in (0, 1):
        monkeypatch.setattr(torch.cuda, "memory_stats", lambda device, num=num_ooms: {"num_ooms": num})
        assert is_out_of_memory(error, device) == bool(num_ooms)
    assert not is_out_of_memory(error, torch.device("cpu"))


def test_running_out_of_memory_at_once_has_saved_nothing(clips, train, monkeypatch):
    spoil(monkeypatch, {1}, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(UserError, match=r"in iteration 1\..*No state is saved yet"):
        train(small_options(clips))
    assert not states(Path("experiments/small"))


def test_a_validation_that_runs_out_of_memory_loses_no_iteration(tmp_path, clips, train, monkeypatch):
    train(small_options(clips, name="whole", val__val_freq=4))

    def restore(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(validation, "restore", restore)
        with pytest.raises(UserError, match=r"while validating after iteration 4\..*datasets\.val.*4\.state is saved"):
            train(small_options(clips, val__val_freq=4))
        with pytest.raises(UserError, match="validating after iteration 4"):
            train(small_options(clips, val__val_freq=4), "--auto_resume")
    train(small_options(clips, val__val_freq=4), "--auto_resume")
    assert_same_weights(weights(tmp_path, "whole", 6), weights(tmp_path, "small", 6))
    assert rows(tmp_path, "whole") == rows(tmp_path, "small")


def test_a_state_is_saved_before_a_validation_that_may_fail(clips, train, monkeypatch):
    """Also where nothing is known of the failure."""

    def restore(*_, **__):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(validation, "restore", restore)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        train(small_options(clips, val__val_freq=4, logger__save_checkpoint_freq=4))
    assert [int(file.stem) for file in states(Path("experiments/small"))] == [4]


def test_running_out_of_memory_in_the_update_saves_nothing_of_it(tmp_path, clips, train, monkeypatch):
    def step(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        with pytest.raises(UserError, match=r"in iteration 1\..*No state is saved yet"):
            train(small_options(clips))
    assert not states(Path("experiments/small"))


@pytest.fixture
def runaway(monkeypatch):
    """Makes offsets jump by 1000 pixels while it is told to."""
    forward = ModulatedDeformConvPack.forward
    switch = {"on": False}

    def shifted(self, x, feature):
        result = forward(self, x, feature)
        if switch["on"] and self.track_offsets:
            self.offset_magnitude.fill_(1000.0)
        return result

    monkeypatch.setattr(ModulatedDeformConvPack, "forward", shifted)
    make_step = loop.make_step

    def watched(trainer, *arguments):
        switch["on"] = trainer.progress.samples == 8  # the fourth batch
        return make_step(trainer, *arguments)

    monkeypatch.setattr(loop, "make_step", watched)


OFFSETS = {"train__offset_freq": 1, "logger__save_checkpoint_freq": 1, "train__total_iter": 6}


def test_runaway_offsets_are_told_once(tmp_path, clips, train, runaway):
    train(small_options(clips, **OFFSETS))
    assert log_of(tmp_path).count("alignment is lost") == 1
    assert "mean offset 1000 pixels in pcd_align." in log_of(tmp_path)


def test_steps_with_runaway_offsets_are_skipped_when_asked_to(tmp_path, clips, train, runaway):
    train(small_options(clips, train__offset_guard="skip", **OFFSETS))
    third, fourth = (weights(tmp_path, "small", i) for i in (3, 4))
    assert_same_weights(third, fourth)


def test_training_rolls_back_when_asked_to(tmp_path, clips, train, runaway):
    train(small_options(clips, train__offset_guard="rollback", train__scheduler=None, **OFFSETS))
    log = log_of(tmp_path)
    assert "rolled back to experiments/small/training_states/3.state, 3 iterations" in log
    state = torch.load(tmp_path / "experiments/small/training_states/6.state", weights_only=True)
    assert state["progress"]["samples"] == 14  # the spoilt batch was passed over
    assert state["players"]["g"]["base_rates"] == [1e-3, 5e-4]
    assert [row[0] for row in rows(tmp_path, "small") if row[1] == "train/loss"] == ["1", "2", "3", "4", "5", "6"]


def test_rolling_back_goes_further_each_time(tmp_path, clips, train, monkeypatch):
    """A state may hold what is wrong: offsets are looked at before an update, and it is saved after one."""
    forward = ModulatedDeformConvPack.forward

    def lost(self, x, feature):
        result = forward(self, x, feature)
        if self.offset_magnitude is not None and lost.samples > 8:
            self.offset_magnitude.fill_(1000.0)
        return result

    lost.samples = 0
    make_step = loop.make_step

    def watched(trainer, *arguments):
        lost.samples = trainer.progress.samples
        return make_step(trainer, *arguments)

    monkeypatch.setattr(ModulatedDeformConvPack, "forward", lost)
    monkeypatch.setattr(loop, "make_step", watched)
    options = {"train__offset_guard": "rollback", "train__scheduler": None, "logger__keep_states": 9, **OFFSETS}
    train(small_options(clips, **options))
    assert re.findall(r"rolled back to \S+/(\d+)\.state", log_of(tmp_path)) == ["4", "3", "2", "1"]
    assert "there is no state to roll back to; going on" in log_of(tmp_path)


def test_curves_forget_what_was_rolled_back(tmp_path, clips, train, runaway):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = {**OFFSETS, "train__offset_freq": 2, "train__scheduler": None, "logger__use_tb_logger": True}
    train(small_options(clips, train__offset_guard="rollback", **options))
    assert "rolled back to experiments/small/training_states/2.state, 2 iterations" in log_of(tmp_path)
    board = EventAccumulator(str(tmp_path / "experiments/small/tb_logger"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]


def test_a_stop_does_not_lose_a_rollback(tmp_path, clips, train, runaway, monkeypatch):
    options = {"train__offset_guard": "rollback", "train__scheduler": None, **OFFSETS}
    train(small_options(clips, name="whole", **options))
    make_step = loop.make_step

    def stopping(trainer, *arguments):
        if trainer.progress.samples == 8:  # as the offsets run away
            os.kill(os.getpid(), signal.SIGTERM)
        return make_step(trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "make_step", stopping)
        with pytest.raises(SystemExit):
            train(small_options(clips, **options))
    train(small_options(clips, **options), "--auto_resume")
    assert_same_weights(weights(tmp_path, "whole", 6), weights(tmp_path, "small", 6))
    assert rows(tmp_path, "whole") == rows(tmp_path, "small")


def test_the_state_to_roll_back_to_is_kept(tmp_path, clips, train, runaway):
    """Between two looks at the offsets more states are saved than are kept."""
    often = {"train__offset_guard": "rollback", "train__scheduler": None, "logger__keep_states": 1}
    train(small_options(clips, **{**OFFSETS, "train__offset_freq": 2, **often}))
    assert "rolled back to experiments/small/training_states/2.state, 2 iterations" in log_of(tmp_path)
    assert [int(file.stem) for file in states(tmp_path / "experiments/small")] == [6]


def test_offsets_are_shown_as_curves(tmp_path, clips, train):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(small_options(clips, train__total_iter=2, train__offset_freq=1, logger__use_tb_logger=True))
    board = EventAccumulator(str(tmp_path / "experiments" / "small" / "tb_logger"), size_guidance={"images": 0})
    board.Reload()
    assert "offsets_mean/pcd_align.cas_dcnpack" in board.Tags()["scalars"]
    assert {"example/LQ", "example/SR", "example/GT", "example/difference x4"} <= set(board.Tags()["images"])
