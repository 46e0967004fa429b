"""The engine's promises on a GPU: exact resume, 16 bits with loss scaling, the CPU's losses, nccl."""

import os
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch
from back_ends import gpu
from training import (
    assert_same_weights,
    predictor_options,
    rows,
    small_options,
    start,
    stop_at,
    weights,
    write_options,
)
from videos import make_humaneva

from vsr.engine import players

pytestmark = [*gpu, pytest.mark.usefixtures("in_tmp_path", "deterministic")]
REPEATABLE = {"num_gpu": 1, "train__deterministic": True, "logger__save_checkpoint_freq": 2, "val__val_freq": 2}


@pytest.fixture
def deterministic(monkeypatch):
    """Leaves the switches as other tests expect them, which in a training are the process's own."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it once
    yield
    torch.use_deterministic_algorithms(False)


def assert_resumes_exactly(folder, train, options):
    """Compares a training that is killed and resumed with one that is not."""
    train(options("whole"))
    process = start(folder, write_options(folder, options("killed")))
    code, text = stop_at(process, "iter 4/6", signal.SIGKILL)
    assert code == -signal.SIGKILL, text
    train(options("killed"), "--auto_resume")
    assert_same_weights(weights(folder, "whole", 6), weights(folder, "killed", 6))
    assert rows(folder, "whole") == rows(folder, "killed")


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_a_killed_training_resumes_exactly(tmp_path, clips, train, amp):
    switches = {"train__amp": amp, "train__tsa_iter": 3, "train__accumulate": 2, "train__tf32": True}
    loader = {"num_worker_per_gpu": 2, "prefetch_mode": "cuda"}
    switches |= {f"datasets__train__{key}": value for key, value in loader.items()}
    assert_resumes_exactly(tmp_path, train, lambda name: small_options(clips, name=name, **REPEATABLE, **switches))


@pytest.mark.parametrize("test_type", ["nextframe", "opticalflow"])
def test_a_killed_training_of_next_frames_resumes_exactly(tmp_path, train, test_type):
    root = make_humaneva(tmp_path / "frames")
    changes = {**REPEATABLE, "train__wsupervised": 0.1}
    changes |= {f"{key}__test_type": test_type for key in ("network_g", "datasets__train", "datasets__val")}
    assert_resumes_exactly(tmp_path, train, lambda name: predictor_options(root, name=name, **changes))


def test_losses_are_those_of_the_cpu(tmp_path, clips, train):
    for num_gpu in (0, 1):
        train(small_options(clips, name=f"gpus_{num_gpu}", num_gpu=num_gpu, train__tf32=False, val__val_freq=3))
    cpu, gpu = rows(tmp_path, "gpus_0"), rows(tmp_path, "gpus_1")
    assert [row[:2] for row in cpu] == [row[:2] for row in gpu]
    for one, other in zip(cpu[1:], gpu[1:], strict=True):
        assert float(other[2]) == pytest.approx(float(one[2]), rel=2e-3), one


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_16_bits_train_nearly_as_32(tmp_path, clips, train, amp):
    train(small_options(clips, name="plain", num_gpu=1))
    train(small_options(clips, name="half", num_gpu=1, train__amp=amp))
    for plain, half in zip(rows(tmp_path, "plain")[1:], rows(tmp_path, "half")[1:], strict=True):
        assert float(half[2]) == pytest.approx(float(plain[2]), rel=0.02), plain


def test_a_loss_scaled_too_high_is_skipped_and_halved(tmp_path, clips, train, monkeypatch):
    scaler = partial(torch.amp.GradScaler, init_scale=2.0**40)
    monkeypatch.setattr(players, "GradScaler", scaler)
    train(small_options(clips, num_gpu=1, train__amp="fp16", train__total_iter=30, train__max_bad_steps=30))
    state = torch.load("experiments/small/training_states/30.state", weights_only=True)
    assert state["players"]["g"]["scaler"]["scale"] < 2.0**40
    assert state["progress"]["bad_steps"] == 0, "it finds a scale that fits"


def test_a_compiled_network_computes_the_same(tmp_path, clips, train):
    changes = {"num_gpu": 1, "train__total_iter": 3, "train__tf32": False, "datasets__val": None}
    train(small_options(clips, name="plain", **changes))
    train(small_options(clips, name="compiled", train__compile=True, **changes))
    for plain, other in zip(rows(tmp_path, "plain")[1:], rows(tmp_path, "compiled")[1:], strict=True):
        assert float(other[2]) == pytest.approx(float(plain[2]), rel=2e-3), plain


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_as_one(tmp_path, clips, train):
    train(small_options(clips, name="one", num_gpu=1, train__tf32=False))
    options = small_options(clips, name="two", num_gpu=2, train__tf32=False, datasets__train__batch_size_per_gpu=1)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "vsr.train"]
    command = [*launcher, "-opt", str(write_options(tmp_path, options))]
    run = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    for one, two in zip(rows(tmp_path, "one")[1:], rows(tmp_path, "two")[1:], strict=True):
        assert float(two[2]) == pytest.approx(float(one[2]), rel=2e-3), one


@pytest.mark.skipif(torch.cuda.device_count() != 1, reason="needs exactly one GPU")
def test_two_processes_on_one_gpu_are_told_the_remedy(tmp_path, clips):
    options = small_options(clips, num_gpu=1, datasets__train__batch_size_per_gpu=1)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "vsr.train"]
    command = [*launcher, "-opt", str(write_options(tmp_path, options))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode != 0
    assert "two processes share a GPU" in run.stderr + run.stdout
