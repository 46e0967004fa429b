"""An experiment's folder: one process at a time, states of other versions, disks that are full."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training import assert_same_weights, log_of, small_options, start, stop_at, weights, write_options

from vsr.config.options import LoggerOptions
from vsr.engine.record import Recorder
from vsr.engine.saving import checkpoints
from vsr.engine.saving.checkpoints import states
from vsr.train import main
from vsr.utils.errors import UserError
from vsr.utils.files import write_atomically

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def test_two_processes_cannot_train_one_experiment(tmp_path, clips):
    options = small_options(clips, train__total_iter=500, datasets__train__num_worker_per_gpu=1)
    file = write_options(tmp_path, options)
    first = start(tmp_path, file)
    for line in first.stdout:
        if "iter 2/500" in line:
            break
    else:
        pytest.fail("the first training did not begin")
    with pytest.raises(UserError, match=rf"small is in use by process {first.pid} on .*--set name"):
        main(["-opt", str(file), "--auto_resume"])
    assert first.poll() is None
    assert stop_at(first, "/500", signal.SIGKILL)[0] == -signal.SIGKILL
    code, text = stop_at(start(tmp_path, file, "--auto_resume"), "/500", signal.SIGTERM)  # the lock died with its owner
    assert code == 0 and "stopped by SIGTERM" in text


def test_states_of_another_version_are_told(tmp_path, clips):
    file = write_options(tmp_path, small_options(clips, train__total_iter=1))
    main(["-opt", str(file)])
    (newest,) = states(tmp_path / "experiments" / "small")
    state = torch.load(newest, weights_only=True)
    torch.save({**state, "format": 0}, newest)
    with pytest.raises(
        UserError, match=r"another version of vsr .its format is 0, this version's 2.*--resume_mode weights"
    ):
        main(["-opt", str(file), "--auto_resume"])
    started_anew = ["--set", "name=new", "--set", f"path.resume_state={newest}", "--resume_mode", "weights"]
    assert main(["-opt", str(file), *started_anew]) == 0


def test_logged_values_are_on_disk_before_the_state_that_continues_them(tmp_path, clips, monkeypatch):
    """Or a power failure would leave a state without the rows of metrics.csv before it."""
    order, fsync = [], os.fsync

    def note(descriptor):
        order.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    main(["-opt", str(write_options(tmp_path, small_options(clips, train__total_iter=1, datasets__val=None)))])
    state = next(index for index, name in enumerate(order) if "1.state" in name)
    assert order[state - 1] == "metrics.csv"


@pytest.fixture
def no_room_for(monkeypatch):
    """Makes writing files whose names match impossible."""

    def fill_the_disk(pattern):
        def write(file, content):
            if file.match(pattern):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
            write_atomically(file, content)

        monkeypatch.setattr(checkpoints, "write_atomically", write)

    return fill_the_disk


@pytest.mark.parametrize(("pattern", "newest"), [("4.state", 2), ("net_g_4.pth", 4)])
def test_a_full_disk_stops_training_and_loses_nothing(tmp_path, clips, no_room_for, monkeypatch, pattern, newest):
    common = {"logger__save_checkpoint_freq": 2}
    main(["-opt", str(write_options(tmp_path, small_options(clips, name="whole", **common)))])
    file = write_options(tmp_path, small_options(clips, **common))
    no_room_for(pattern)
    with pytest.raises(
        UserError, match=rf"{pattern} could not be written.*No space left.*Nothing already there was lost"
    ):
        main(["-opt", str(file)])
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    main(["-opt", str(file), "--auto_resume"])
    assert f"resumed from experiments/small/training_states/{newest}.state" in log_of(tmp_path)
    assert_same_weights(weights(tmp_path, "whole", 6), weights(tmp_path, "small", 6))


def test_training_goes_on_without_what_could_not_be_written_when_told_to(tmp_path, clips, no_room_for):
    common = {"logger__save_checkpoint_freq": 2}
    main(["-opt", str(write_options(tmp_path, small_options(clips, name="whole", **common)))])
    no_room_for("4.state")
    options = small_options(clips, logger__on_failed_write="go_on", **common)
    main(["-opt", str(write_options(tmp_path, options))])
    assert "4.state could not be written" in log_of(tmp_path) and "Continuing without it." in log_of(tmp_path)
    assert [int(file.stem) for file in states(tmp_path / "experiments" / "small")] == [6, 2]
    assert_same_weights(weights(tmp_path, "whole", 6), weights(tmp_path, "small", 6))


def test_the_last_state_has_to_be_written(tmp_path, clips, no_room_for):
    no_room_for("6.state")
    file = write_options(tmp_path, small_options(clips, logger__on_failed_write="go_on"))
    with pytest.raises(UserError, match=r"6\.state could not be written"):
        main(["-opt", str(file)])


def test_curves_and_tables_that_cannot_be_written_stop_training_or_not_as_told(tmp_path):
    for choice in ("stop", "go_on"):
        with Recorder(tmp_path, 0, 9, LoggerOptions(use_tb_logger=True, on_failed_write=choice)) as record:
            record.table = Path("/dev/full")
            if choice == "stop":
                with pytest.raises(OSError, match="No space left"):
                    record.scalars(1, {"loss": 1.0})
            else:
                record.scalars(1, {"loss": 1.0})


def test_an_error_that_comes_up_while_saving_is_no_full_disk(tmp_path, monkeypatch):
    def write(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "save", write)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        checkpoints.save(tmp_path / "1.state", {})


def test_torch_failing_to_write_is_one_message_and_leaves_nothing_behind(tmp_path, clips):
    code = (
        "import resource, runpy, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000)); "
        "runpy.run_module('vsr.train', run_name='__main__')"
    )
    file = write_options(tmp_path, small_options(clips, train__total_iter=1))
    done = subprocess.run(
        [sys.executable, "-c", code, "-opt", str(file)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "1.state could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "experiments" / "small" / "training_states").iterdir())


def test_weights_that_a_stop_left_out_are_written_when_resuming(tmp_path, clips):
    file = write_options(tmp_path, small_options(clips, train__total_iter=1))
    main(["-opt", str(file)])
    final = tmp_path / "experiments" / "small" / "models" / "net_g_1.pth"
    content = torch.load(final, weights_only=True)
    final.unlink()
    main(["-opt", str(file), "--auto_resume"])
    assert_same_weights(torch.load(final, weights_only=True), content)


@pytest.mark.parametrize("left", ["damaged states", "weights"])
def test_nothing_is_begun_anew_over_an_experiment_without_a_state(tmp_path, clips, left):
    file = write_options(tmp_path, small_options(clips, logger__save_checkpoint_freq=2))
    main(["-opt", str(file)])
    for state in states(tmp_path / "experiments" / "small"):
        state.write_bytes(state.read_bytes()[:1000]) if left == "damaged states" else state.unlink()
    before = sorted((tmp_path / "experiments" / "small").rglob("*.pth"))
    with pytest.raises(UserError, match="has no state in experiments/small/training_states that can be read"):
        main(["-opt", str(file), "--auto_resume"])
    assert sorted((tmp_path / "experiments" / "small").rglob("*.pth")) == before


def test_commands_of_older_launchers_are_understood(tmp_path, clips):
    file = write_options(tmp_path, small_options(clips))
    assert main(["-opt", str(file), "--launcher", "pytorch", "--local-rank=0", "--check"]) == 0
