"""A training small enough for tests: options for synthetic clips, and comparisons of what it wrote."""

import csv
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import torch
import yaml
from processes import Forked, run_module
from synthetic import SyntheticSet

# A network with buffers that a step changes; EDVR has none.
BATCH_NORM = {"network_g": {"type": "BatchNormNetwork"}, "imports": ["batch_norm_network"]}


def small_options(clips: SyntheticSet, **changes) -> dict:
    """Returns options of a tiny EDVR; ``changes`` are overrides, ``train__total_iter=4``."""
    roots = {"dataroot_gt": str(clips.gt), "dataroot_lq": str(clips.lq), "meta_info_file": str(clips.meta)}
    loader = {"batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
    train_set = {
        "type": "REDSDataset",
        **roots,
        "num_frame": 3,
        "gt_size": 32,
        "val_partition": "none",
        "use_rot": True,
    }
    test_set = {"name": "clips", "type": "VideoTestDataset", **roots, "num_frame": 3, "num_worker_per_gpu": 0}
    options = {
        "name": "small",
        "num_gpu": 0,
        "manual_seed": 7,
        "datasets": {"train": {**train_set, **loader}, "val": test_set},
        "network_g": {
            "type": "EDVR",
            "num_feat": 8,
            "num_frame": 3,
            "num_extract_block": 1,
            "num_reconstruct_block": 1,
            "deformable_groups": 2,
        },
        "train": {
            "total_iter": 6,
            "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
            "scheduler": {"type": "CosineAnnealingRestartLR", "periods": [20], "eta_min": 1e-7},
            "pixel_opt": {"type": "CharbonnierLoss"},
            "ema_decay": 0.9,
        },
        "val": {"metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}}, "pbar": False},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 100, "use_tb_logger": False},
    }
    return changed(options, changes)


def predictor_options(root: Path, **changes) -> dict:
    """Returns options of a tiny FramePredictor for the set of :func:`videos.make_humaneva`; ``changes`` as above."""
    frames = {
        "type": "HumanEvaDataset",
        "dataroot": str(root),
        "input_size": 3,
        "frame_interval": 2,
        "num_worker_per_gpu": 0,
    }
    frames |= {"width": 24, "height": 16}
    options = {
        "name": "small",
        "num_gpu": 0,
        "manual_seed": 7,
        "datasets": {
            "train": {**frames, "list_file": str(root / "train_list.csv"), "batch_size_per_gpu": 2},
            "val": {**frames, "list_file": str(root / "test_list.csv"), "name": "held_out"},
        },
        "network_g": {
            "type": "FramePredictor",
            "encoder": {"type": "UNetEncoder", "channels": [3, 4, 8]},
            "decoder": {"type": "UNetDecoder"},
            "noskip": [False, True],
            "frame_size": [16, 24],
            "memory": {"type": "pixwise", "memory_size": 3},
        },
        "trainer": "NextFrameTrainer",
        "train": {"total_iter": 6, "optim_g": {"type": "Adam", "lr": 1e-3}, "pixel_opt": {"type": "L1Loss"}},
        "val": {"val_freq": 3, "pbar": False},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 3, "use_tb_logger": False},
    }
    return changed(options, changes)


def changed(options: dict, changes: dict) -> dict:
    """Returns options with overrides such as ``train__total_iter=4``."""
    for path, value in changes.items():
        *sections, key = path.split("__")
        mapping = options
        for section in sections:
            mapping = mapping.setdefault(section, {})
        mapping[key] = value
    return options


def write_options(folder: Path, options: dict) -> Path:
    """Writes ``NAME.yml`` and returns its path."""
    file = folder / f"{options['name']}.yml"
    file.write_text(yaml.safe_dump(options))
    return file


def start(folder: Path, file: Path, *arguments: str, entry: str = "train") -> Forked | subprocess.Popen:
    """Starts an entry point in a process of its own, one thread, working in ``folder``."""
    return run_module(folder, entry, "-opt", file, *arguments)


def stop_at(
    process: Forked | subprocess.Popen, text: str, number: signal.Signals, *, to_workers: bool = False
) -> tuple[int, str]:
    """Sends a signal when the process prints ``text``; returns its exit code and all it printed."""
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            if to_workers:
                os.killpg(process.pid, number)
            elif number is signal.SIGKILL:
                kill(process)
            else:
                process.send_signal(number)
            break
    seen += process.stdout.read()
    return process.wait(timeout=120), seen


def kill(process: Forked | subprocess.Popen) -> None:
    """Kills a process, and then the workers that it leaves, which notice within 5 s."""
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=120)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def weights(folder: Path, name: str, iteration: int) -> dict:
    """Returns what a run saved at an iteration."""
    return torch.load(folder / "experiments" / name / "models" / f"net_g_{iteration}.pth", weights_only=True)


def rows(folder: Path, name: str) -> list[list[str]]:
    """Returns the rows of a run's metrics.csv."""
    with (folder / "experiments" / name / "metrics.csv").open(newline="") as stream:
        return list(csv.reader(stream))


def undo(folder: Path, name: str, iteration: int) -> None:
    """Removes what a run saved after ``iteration``, as if it had been stopped there."""
    for file in (folder / "experiments" / name).rglob("*"):
        number = file.stem.removeprefix("net_g_").removeprefix("net_d_")
        if number.isdigit() and int(number) > iteration:
            file.unlink()


def copy_until(folder: Path, name: str, copy: str, iteration: int) -> None:
    """Makes a run named ``copy`` of what ``name`` had saved by ``iteration``: what training again would give."""
    shutil.copytree(folder / "experiments" / name, folder / "experiments" / copy)
    undo(folder, copy, iteration)


def log_of(folder: Path, name: str = "small") -> str:
    """Returns a run's log."""
    return (folder / "experiments" / name / "train.log").read_text()


def assert_same_weights(first: dict, second: dict) -> None:
    """Asserts that two weight files are equal bit for bit."""
    assert first.keys() == second.keys()
    for entry in first:
        assert first[entry].keys() == second[entry].keys()
        for name in first[entry]:
            assert torch.equal(first[entry][name], second[entry][name]), f"{entry}: {name}"
