"""What a run leaves behind: a table that survives what it finds there, a line whatever the numbers."""

import csv
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from torch.utils import tensorboard
from training import log_of, small_options

from vsr.config.options import LoggerOptions, VisdomOptions, WandbOptions
from vsr.engine.record import Recorder
from vsr.utils.errors import UserError

QUIET = LoggerOptions(use_tb_logger=False)


@pytest.mark.parametrize("damage", [b"\x00" * 300, bytes(range(256)), b'2,"', b"\xc2\xb2,loss,1\r\n", b"9" * 200_000])
def test_what_is_no_row_is_dropped_from_the_table(tmp_path, damage):
    """A crash leaves zeros, and a full disk half of a row."""
    with Recorder(tmp_path, 0, 5, QUIET) as record:
        record.scalars(1, {"loss": 0.5, 'val/"a", b': 2.0})
    table = tmp_path / "metrics.csv"
    table.write_bytes(table.read_bytes() + damage)
    with Recorder(tmp_path, 1, 5, QUIET) as record:
        record.scalars(2, {"loss": 0.25})
    rows = [["iteration", "name", "value"], ["1", "loss", "0.5"], ["1", 'val/"a", b', "2.0"], ["2", "loss", "0.25"]]
    assert list(csv.reader(table.open(newline=""))) == rows


def advice(folder, caplog, waits, num_workers=0):
    """Returns the warnings about the wait for data, by the line of the log that each follows."""
    values = {"loss": 1.0, "loss_per_value": 1.0, "psnr": 30.0, "lr": 1e-4}
    with Recorder(folder, 0, 9, QUIET, num_workers=num_workers) as record:
        for number, wait in enumerate(waits):
            record.line(number, values, speed=1.0, wait=wait, memory=0.0)
    return [line.message for line in caplog.records if "waiting for data" in line.message]


def test_the_wait_for_workers_to_start_is_no_advice(tmp_path, caplog):
    (line,) = advice(tmp_path, caplog, (0.9, 0.9))
    assert line.startswith("90 % of the time was spent waiting for data: raise datasets.train.num_worker")


def test_the_advice_recurs_only_when_the_wait_has_doubled(tmp_path, caplog):
    shares = [line.partition(" ")[0] for line in advice(tmp_path, caplog, (0, 0.2, 0.25, 0.3, 0.1, 0.45, 0.6, 0.8))]
    assert shares == ["25", "60"]


def test_more_workers_than_cores_are_not_advised(tmp_path, caplog):
    (line,) = advice(tmp_path, caplog, (0.0, 0.9), num_workers=len(os.sched_getaffinity(0)))
    assert "num_worker" not in line and "python -m vsr.bench_data" in line


# places for curves that fail ------------------------------------------------------------------------------------------


class Failing:
    """A TensorBoard writer or Visdom connection that fails from one call of ``line`` or ``add_scalar`` on."""

    def __init__(self, *args, fails_at=0, **kwargs):
        self.calls, self.fails_at = 0, fails_at
        self.count()

    def count(self, *args, **kwargs):
        self.calls += 1
        if self.calls > self.fails_at:
            raise ConnectionError("no route to host\nmore lines")

    def close(self):
        pass

    add_scalar = add_image = line = image = count


def wandb_that_fails(**kwargs):
    raise RuntimeError("No API key configured.")


def options_of(place, required=False):
    if place == "logger.wandb":
        return LoggerOptions(wandb=WandbOptions("p", required=required))
    if place == "logger.visdom":
        return LoggerOptions(use_tb_logger=False, visdom=VisdomOptions(required=required))
    return LoggerOptions(wandb=WandbOptions("p" if required else None, required=required))


def break_place(monkeypatch, place, calls):
    """Makes a place for curves fail after so many calls of it; 0 is the start."""
    wandb = wandb_that_fails if place == "logger.wandb" else lambda **kwargs: None
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=wandb))
    made = []

    def make(*args, **kwargs):
        made.append(Failing(fails_at=calls))
        return made[-1]

    monkeypatch.setitem(sys.modules, "visdom", SimpleNamespace(Visdom=make))
    if place == "logger.use_tb_logger":
        monkeypatch.setattr(tensorboard, "SummaryWriter", make)
    return made


CASES = [
    ("logger.wandb", 0),
    *((place, calls) for place in ("logger.use_tb_logger", "logger.visdom") for calls in (0, 2)),
]


@pytest.mark.parametrize(("place", "calls"), CASES)
def test_training_goes_on_without_a_place_for_curves_that_fails(tmp_path, caplog, monkeypatch, place, calls):
    made = break_place(monkeypatch, place, calls)
    with Recorder(tmp_path, 0, 5, options_of(place)) as record:
        for iteration in range(1, 6):
            record.scalars(iteration, {"loss": 0.5})
            record.images(iteration, {"clip": np.zeros((2, 2, 3), np.uint8)})
        record.rewind(4)
    (line,) = [entry.getMessage() for entry in caplog.records]
    assert line.startswith(f"{place}: ") and line.endswith("Continuing without it.") and "\n" not in line
    assert len(list(csv.reader((tmp_path / "metrics.csv").open(newline="")))) == 5  # with its head
    assert all(one.calls <= calls + 1 for one in made), "it was called again after it had failed"


@pytest.mark.parametrize(("place", "calls"), CASES)
def test_a_required_place_for_curves_that_fails_ends_training(tmp_path, monkeypatch, place, calls):
    break_place(monkeypatch, place, calls)
    key = "visdom" if place == "logger.visdom" else "wandb"
    with (
        pytest.raises(UserError, match=rf"^{place}: .*; logger\.{key}\.required is true$"),
        Recorder(tmp_path, 0, 5, options_of(place, required=True)) as record,
    ):
        for iteration in range(1, 6):
            record.scalars(iteration, {"loss": 0.5})


@pytest.mark.usefixtures("in_tmp_path")
@pytest.mark.parametrize("package", ["wandb", "visdom"])
def test_a_package_that_is_not_installed_is_one_line(tmp_path, clips, train, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    given = {"project": "p"} if package == "wandb" else {"port": 7097}
    train(small_options(clips, train__total_iter=1, logger__use_tb_logger=True, **{f"logger__{package}": given}))
    text = f"logger.{package}: {package} is not installed: pip install {package}. Continuing without it."
    assert log_of(tmp_path).count(text) == 1
