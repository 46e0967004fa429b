"""What the numbers of a benchmark depend on, kept with its results."""

import platform
import subprocess
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import vsr
from vsr.ops import backend


def machine(device: str) -> dict[str, str | int]:
    """Returns the date, the processor or GPU, the number of CPU threads and the versions."""
    return {
        "date": date.today().isoformat(),
        "vsr": vsr.__version__,
        "torch": torch.__version__,
        "torchvision": _version("torchvision"),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} {_processor()}",
        "threads": torch.get_num_threads(),
        "source": backend.built(device).record.get("source", "none"),
    }


def checkout(path: Path) -> str:
    """Returns the commit of a checkout of vsr as results name it; the folder's name where there is no commit."""
    command = ["git", "-C", str(path), "rev-parse", "--short=7", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"vsr at {done.stdout.strip() or path.resolve().name}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _processor() -> str:
    """Returns the processor's name and the vector instructions that PyTorch uses."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform.startswith("linux") else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"
