"""What a run leaves behind: a table that survives what it finds there, a line whatever the numbers."""

import csv

import pytest

from vsr.config.options import LoggerOptions
from vsr.engine.record import Recorder

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


def test_the_wait_for_workers_to_start_is_no_advice(tmp_path, caplog):
    values = {"loss": 1.0, "loss_per_value": 1.0, "psnr": 30.0, "lr": 1e-4}
    with Recorder(tmp_path, 0, 9, QUIET) as record:
        record.line(1, 9, values, speed=1.0, wait=0.9, memory=0.0)
        assert "num_worker_per_gpu" not in caplog.text
        record.line(2, 9, values, speed=1.0, wait=0.9, memory=0.0)
    assert caplog.text.count("90 % of the time was spent waiting for data: raise datasets.train.num_worker") == 1
