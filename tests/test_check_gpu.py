"""scripts/check_gpu.sh: its runner, and its parts on small inputs."""

import json
import sys

import pytest
import torch
from load_script import ROOT, load_script

BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))  # they import each other, as when they are run
check = load_script("check_gpu", BENCHMARKS)


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "RESULTS", tmp_path)

    def read():
        (file,) = tmp_path.glob("cpu_check_*.json")
        return json.loads(file.read_text())["parts"]

    return read


def test_without_a_gpu_it_says_so_and_ends_well(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check.main([]) == 0
    assert capsys.readouterr().out == "skipped: PyTorch finds no GPU here\n"


def test_parts_run_apart_and_leave_their_results(results):
    assert check.main(["--device", "cpu", "--parts", "networks", "out_of_memory"]) == 0
    assert results()["networks"]["results"]["frame bf16"]["median_ms"] > 0
    assert results()["out_of_memory"]["skipped"] == "a CPU's memory is not filled on purpose"


def test_a_part_that_fails_or_takes_too_long_does_not_end_the_others(results, monkeypatch, tmp_path):
    monkeypatch.setitem(check.PARTS, "tests", (check.gpu_parts.tests, 0.1))
    clips = ["--clips", str(tmp_path)]  # an empty folder
    assert check.main(["--device", "cpu", *clips, "--parts", "tests", "minute", "out_of_memory"]) == 1
    assert "stopped after 0.1 s" in results()["tests"]["failed"]
    assert "meta_info_train.txt" in results()["minute"]["failed"]
    assert "skipped" in results()["out_of_memory"]


@pytest.mark.slow
def test_every_part_runs(results):
    assert check.main(["--device", "cpu"]) == 0
    assert results()["resume"]["results"]["tensors_equal"] > 10
    assert "it/s" in results()["processes"]["results"]["1 processes"]["last_line"]
    assert {row["name"] for row in results()["operators"]["results"]["rows"]} >= {"torchvision"}
