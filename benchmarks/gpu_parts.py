"""The parts of scripts/check_gpu.sh: each takes a Job and returns what it found, or raises."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from vsr.archs import EDVR
from vsr.losses.pixel import charbonnier_loss

ROOT = Path(__file__).resolve().parents[1]
Found = dict[str, Any]
TINY = {"num_feat": 8, "num_extract_block": 1, "num_reconstruct_block": 1}


class SkippedError(Exception):
    """Why a part does not run here."""


class Job(NamedTuple):
    """What a part needs to know.

    Args:
        device: ``cuda``, or ``cpu`` with small inputs, to try the parts themselves.
        folder: to work in; the parts share it.
        clips: a data set in the layout of datasets/demo.
    """

    device: str
    folder: Path
    clips: Path

    @property
    def is_small(self) -> bool:
        """Whether the inputs are only to try the part."""
        return self.device == "cpu"


def tests(job: Job) -> Found:
    """The tests marked gpu."""
    chosen = ["-k", "nothing_at_all"] if job.is_small else []
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--tb=line", *chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 5):  # 5: none was selected
        raise RuntimeError(done.stdout[-4000:] + done.stderr[-1000:])
    return {"summary": (done.stdout.strip().splitlines() or ["none selected"])[-1]}


def operators(job: Job) -> Found:
    """The deformable convolution against torchvision's: float32, TF32, bfloat16; 64 and 128 channels."""
    if find_spec("torchvision") is None:
        raise SkippedError("torchvision is not installed")
    import ops

    if job.is_small:
        ops.SHAPES["cpu"] = [ops.Shape(1, 16, 4, 5, 2)]
    ops.RESULTS = job.folder
    ops.main(["--device", job.device, "--seconds", "0" if job.is_small else "4", "--save", "check"])
    return json.loads((job.folder / "ops_check.json").read_text())


def networks(job: Job) -> Found:
    """EDVR-M's training step and one frame in each precision and layout, eager, compiled and as a CUDA graph."""
    network = EDVR(**(TINY if job.is_small else {})).to(job.device)
    patch, frame = ((1, 5, 3, 16, 16),) * 2 if job.is_small else ((4, 5, 3, 64, 64), (1, 5, 3, 180, 320))
    found: Found = {}
    for name, tf32, amp, layout in (
        ("float32", False, False, torch.contiguous_format),
        ("float32 channels_last", False, False, torch.channels_last),
        ("tf32", True, False, torch.contiguous_format),
        ("bf16", True, True, torch.contiguous_format),
        ("bf16 channels_last", True, True, torch.channels_last),
    ):
        for setting in (torch.backends.cuda.matmul, torch.backends.cudnn.conv):
            setting.fp32_precision = "tf32" if tf32 else "ieee"
        network.to(memory_format=layout)
        for compiled in (False, True) if name.startswith("bf16 c") and not job.is_small else (False,):
            run = torch.compile(network) if compiled else network
            title = name + " compiled" * compiled
            found[f"step {title}"] = timed(training_step(run, network, torch.rand(patch, device=job.device), amp), job)
            found[f"frame {title}"] = timed(restoring(run, torch.rand(frame, device=job.device), amp), job)
            print(title, {key: value for key, value in found.items() if key.endswith(title)}, flush=True)
    if job.device == "cuda":
        found["frame bf16 channels_last graph"] = timed(graph(network, torch.rand(frame, device="cuda")), job)
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def training_step(run: Callable[..., Any], network: torch.nn.Module, lq: torch.Tensor, amp: bool) -> Callable[[], Any]:
    """Returns one optimiser step as a function."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    gt = torch.rand(lq.shape[0], 3, 4 * lq.shape[-2], 4 * lq.shape[-1], device=lq.device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(lq.device.type, torch.bfloat16, enabled=amp):
            sr = run(lq)
        charbonnier_loss(sr.float(), gt).backward()
        optimizer.step()

    return step


def restoring(run: Callable[..., Any], lq: torch.Tensor, amp: bool) -> Callable[[], Any]:
    """Returns one call of the network, without gradients, as a function."""

    def call() -> torch.Tensor:
        with torch.no_grad(), torch.autocast(lq.device.type, torch.bfloat16, enabled=amp):
            return run(lq)

    return call


def graph(network: torch.nn.Module, lq: torch.Tensor) -> Callable[[], Any]:
    """Returns the replay of a CUDA graph of one call."""
    call = restoring(network, lq, amp=True)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        call()
    return recorded.replay


def timed(function: Callable[[], Any], job: Job) -> Found:
    """Returns the median and the quartiles of a function's time in milliseconds."""
    wait = torch.cuda.synchronize if job.device == "cuda" else lambda: None
    times: list[float] = []
    for number in range(3 if job.is_small else 23):
        wait()
        start = time.perf_counter()
        function()
        wait()
        if number >= (1 if job.is_small else 3):
            times.append((time.perf_counter() - start) * 1e3)
    low, median, high = statistics.quantiles(times, n=4)
    return {"median_ms": median, "quartiles_ms": [low, high]}


def memories(job: Job) -> Found:
    """The reads pixwise and pixsentence, time and memory."""
    import memory

    if job.is_small:
        memory.CASES = [case._replace(size=(8, 8), channels=4, repeats=2) for case in memory.CASES][:1]
        memory.run_apart = lambda number, device: (
            memory.measured(memory.CASES[number], device, True) | memory.measured(memory.CASES[number], device, False)
        )
        memory.main(["--device", "cpu", "--out", str(job.folder)])
        return json.loads((job.folder / "memory_cpu.json").read_text())
    found = {}
    for read in ("pixwise", "pixsentence"):
        memory.main(["--device", job.device, "--out", str(job.folder), "--read", read])
        found[read] = json.loads(next(job.folder.glob(f"memory_{job.device}*.json")).read_text())
    return found


def resume(job: Job) -> Found:
    """A training resumed from its middle gives the same bits, with train.deterministic."""
    settings = ["train.deterministic=true", "train.total_iter=6", "logger.save_checkpoint_freq=3"]
    train(job, "resumed", *settings)
    whole = weights(job, "resumed", 6)
    experiment = job.folder / "experiments" / "resumed"
    for file in [*experiment.glob("models/*_6*"), *experiment.glob("training_states/6.*")]:
        file.unlink()
    train(job, "resumed", *settings, resumed=True)
    resumed = weights(job, "resumed", 6)
    different = [key for key in whole if not torch.equal(whole[key], resumed[key])]
    if different:
        raise RuntimeError(f"{len(different)} of {len(whole)} tensors differ, such as {different[0]}")
    return {"tensors_equal": len(whole)}


def precisions(job: Job) -> Found:
    """Training in 16 bits: bfloat16, and float16 with loss scaling."""
    found = {}
    for amp in ("bf16",) if job.is_small else ("bf16", "fp16"):
        found[amp] = train(job, amp, f"train.amp={amp}", "train.total_iter=20")
    return found


def processes(job: Job) -> Found:
    """NCCL with one process, and with two where there are two GPUs."""
    found = {}
    for count in (1, 2):
        if job.device == "cuda" and count > torch.cuda.device_count():
            found[f"{count} processes"] = "skipped: one GPU"
        elif not (job.is_small and count > 1):
            launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
            found[f"{count} processes"] = train(job, f"ranks{count}", "train.total_iter=10", launcher=launcher)
    return found


def out_of_memory(job: Job) -> Found:
    """A batch that cannot fit ends in one message and exit code 2."""
    if job.is_small:
        raise SkippedError("a CPU's memory is not filled on purpose")
    huge = ["datasets.train.batch_size_per_gpu=20000", "datasets.train.num_worker_per_gpu=0", "train.total_iter=2"]
    done = training(job, "huge", *huge)
    if done.returncode != 2 or "ut of memory" not in done.stderr or "Traceback" in done.stderr:
        raise RuntimeError(f"exit code {done.returncode}, expected 2 and one message: {done.stderr[-1500:]}")
    return {"message": done.stderr.strip().splitlines()[-1]}


def minute(job: Job) -> Found:
    """A minute of training, loader included."""
    return train(job, "minute", f"train.total_iter={4 if job.is_small else 1200}", "train.amp=auto", limit=60)


def options(job: Job) -> Path:
    """Returns the options file of the parts that train."""
    roots = {"dataroot_gt": "train_sharp", "dataroot_lq": "train_sharp_bicubic/X4"}
    roots = {key: str(job.clips / folder) for key, folder in roots.items()}
    data = {"type": "REDSDataset", **roots, "meta_info_file": str(job.clips / "meta_info_train.txt")}
    data |= {"val_partition": "none", "num_frame": 5, "gt_size": 64 if job.is_small else 256, "use_hflip": True}
    data |= {"batch_size_per_gpu": 1 if job.is_small else 4, "num_worker_per_gpu": 0 if job.is_small else 6}
    network = {
        "type": "EDVR",
        **({"num_feat": 8, "num_extract_block": 1, "num_reconstruct_block": 1} if job.is_small else {}),
    }
    tree = {
        "name": "check",
        "num_gpu": 0 if job.is_small else "auto",
        "datasets": {"train": {**data, "use_rot": True, "dataset_enlarge_ratio": 200}},
        "network_g": network,
        "train": {
            "total_iter": 6,
            "optim_g": {"type": "Adam", "lr": 1e-4},
            "pixel_opt": {"type": "CharbonnierLoss"},
        },
        "logger": {"print_freq": 1, "use_tb_logger": False, "save_checkpoint_freq": 100000},
    }
    file = job.folder / "check.yml"
    file.write_text(yaml.safe_dump(tree))
    return file


def training(
    job: Job, name: str, *changes: str, resumed: bool = False, launcher: Any = (), limit: float | None = None
) -> Any:
    """Runs vsr.train; after ``limit`` seconds, as after Ctrl-C, it saves and ends."""
    settings = [part for change in (f"name={name}", *changes) for part in ("--set", change)]
    command = [sys.executable, *launcher, "-m", "vsr.train", "-opt", str(options(job)), *settings]
    command += ["--auto_resume"] * resumed
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=job.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.terminate()
            out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def train(job: Job, name: str, *changes: str, **how: Any) -> Found:
    """Trains; returns the last line of the log that tells losses and speed."""
    done = training(job, name, *changes, **how)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if " it/s" in line]
    if (done.returncode != 0 and "limit" not in how) or not lines:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-1500:]}")
    return {"last_line": lines[-1]}


def weights(job: Job, name: str, iteration: int) -> dict[str, torch.Tensor]:
    """Returns the weights of a training."""
    file = job.folder / "experiments" / name / "models" / f"net_g_{iteration}.pth"
    return torch.load(file, weights_only=True)["params"]
