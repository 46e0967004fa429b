"""Prints what vsr runs on: versions, devices, the back ends of its operators, and how the libraries were built.

python -m vsr.env
"""

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

PACKAGES = ("torch", "torchvision", "triton", "numpy", "opencv-python", "scikit-image", "scipy", "lmdb", "zlib-ng")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report and returns the exit code."""
    argparse.ArgumentParser(prog="vsr env", description=(__doc__ or "").split("\n")[0]).parse_args(arguments)
    sys.stdout.write("\n".join(report()) + "\n")
    return 0


def report() -> list[str]:
    """Returns the lines that ``python -m vsr.env`` prints."""
    return [f"vsr {vsr.__version__}", *versions(), *devices(), *backends(), *libraries()]


def versions() -> list[str]:
    """Returns one line per package, and one for Python and the machine."""
    lines = [f"python {platform.python_version()} on {platform.system()} {platform.machine()}"]
    for name in PACKAGES:
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lines.append(f"{name} not installed")
    return lines


def devices() -> list[str]:
    """Returns one line for the CPU and one per GPU."""
    lines = [f"cpu: {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"]
    if torch.version.cuda is None:
        return [*lines, "cuda: this PyTorch is a CPU build"]
    if not torch.cuda.is_available():
        return [*lines, f"cuda: PyTorch was built with {torch.version.cuda}, but finds no GPU"]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        lines.append(f"cuda:{index}: {properties.name}, {memory:.0f} GiB, sm_{properties.major}{properties.minor}")
    return lines


def backends() -> list[str]:
    """Returns which kernels run each operator on each kind of device, and why the others do not."""
    lines: list[str] = []
    for operator, device_type in product(get_args(backend.Operator), ("cpu", "cuda")):
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
    """Returns what each compiled library was built from."""
    lines: list[str] = []
    for device_type, path in backend.LIBRARIES.items():
        record = backend.built(device_type).record
        if not record:
            continue
        age = " (older than csrc)" if backend.is_stale(record) else ""
        facts = ", ".join(f"{key} {record[key]}" for key in ("torch", "cuda", "arch", "source") if key in record)
        lines += [f"{path.name}: {facts}{age}", f"  flags {record.get('flags')}"]
    return lines
