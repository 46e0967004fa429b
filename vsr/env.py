"""Prints the versions, the devices, the operators' back ends and how they were built: ``python -m vsr.env``."""

import argparse
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from typing import get_args

import torch

import vsr
from vsr.ops import backend
from vsr.utils.errors import exit_cleanly

PACKAGES = [
    "torch",
    "torchvision",
    "triton",
    "numpy",
    "opencv-python",
    "av",
    "safetensors",
    "scikit-image",
    "scipy",
    "lmdb",
    "zlib-ng",
    "filelock",
    "onnx",
    "onnxruntime",
]

TESTED = (
    "kernels tested: on CPUs, with AVX-512, AVX2 and without; on GPUs never yet, `bash scripts/check_gpu.sh` tests and "
    "times them"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report and returns the exit code."""
    description = (__doc__ or "").split("\n")[0]
    argparse.ArgumentParser(prog="vsr env", description=description, allow_abbrev=False).parse_args(arguments)
    lines = [
        f"vsr {vsr.__version__}",
        f"python {platform.python_version()} on {platform.platform()}",
    ]
    lines += [f"{name} {installed(name)}" for name in PACKAGES]
    sys.stdout.write("\n".join([*lines, *devices(), TESTED, *backends(), *libraries()]) + "\n")
    return 0


def installed(package: str) -> str:
    """Returns the version of a package, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def devices() -> list[str]:
    """Returns one line for the CPU and one per GPU."""
    lines = [f"cpu: {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"]
    if torch.version.cuda is None:
        return [*lines, "cuda: this PyTorch is a CPU build"]
    if not torch.cuda.is_available():
        return [*lines, f"cuda: PyTorch was built with {torch.version.cuda}, but finds no GPU"]
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        lines.append(f"cuda:{index}: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, sm_{gpu.major}{gpu.minor}")
    return lines


def backends() -> list[str]:
    """Returns which kernels run each operator on each kind of device, and why the others do not."""
    lines: list[str] = []
    for operator, device_type in product(get_args(backend.Operator), ("cpu", "cuda")):
        if operator not in backend.operators(device_type):
            continue
        choice = backend.choose(operator, device_type)
        lines.append(f"{operator} on {device_type}: {choice.backend or 'none, ' + choice.reason}")
        for name in get_args(backend.Backend):
            if name == "compiled" and choice.backend == "triton" and device_type in backend.COMPILED[operator]:
                problem = backend.built(device_type).problem  # loaded, its kernels would take the place of Triton's
            else:
                problem = backend.unavailable(name, operator, device_type)
            lines.append(f"  {name}: {'available' if problem is None else problem}")
    return lines


def libraries() -> list[str]:
    """Returns how each compiled library was built."""
    lines: list[str] = []
    for device_type, path in backend.LIBRARIES.items():
        if record := backend.built(device_type).record:
            age = " (older than csrc)" if backend.is_stale(record) else ""
            facts = ", ".join(f"{key} {record[key]}" for key in ("torch", "cuda", "arch", "source") if key in record)
            lines += [f"{path.name}: {facts}{age}", f"  flags {record.get('flags')}"]
    return lines


if __name__ == "__main__":
    exit_cleanly(main)
