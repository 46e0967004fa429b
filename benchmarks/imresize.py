"""Processor time of MATLAB's bicubic x 1/4 of a 720p frame: BasicSR's Python function and ours, one thread, in one run.

pip install --no-deps basicsr
python benchmarks/imresize.py
"""

import importlib.util
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from vsr.data import imresize

ROUNDS = 11
SIZE = (720, 1280)


def main() -> None:
    """Checks that the results agree, then times both in turns."""
    torch.set_num_threads(1)
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    floats = image.astype(np.float32) / 255
    tensor = torch.from_numpy(floats).permute(2, 0, 1).contiguous()
    candidates: dict[str, Callable[[], object]] = {
        "vsr, float32 array": lambda: imresize(floats, 0.25),
        "vsr, float32 tensor": lambda: imresize(tensor, 0.25),
        "vsr, uint8 array (rounded as MATLAB)": lambda: imresize(image, 0.25),
    }
    theirs = basicsr_functions()
    if theirs is not None:
        candidates = {"basicsr, float32 array": lambda: theirs.imresize(floats, 0.25), **candidates}
        difference = np.abs(theirs.imresize(floats, 0.25) - imresize(floats, 0.25)).max()
        print(f"largest difference from basicsr: {difference:.1e}")
    times = {name: [] for name in candidates}
    for _ in range(ROUNDS + 1):
        for name, run in candidates.items():
            start = time.process_time()
            run()
            times[name].append(1000 * (time.process_time() - start))
    print(f"\n{date.today()}, {platform.machine()}, 1 of {os.cpu_count()} CPU cores, torch {torch.__version__}; "
          f"median of {ROUNDS} (fastest - slowest)\n")  # fmt: skip
    print(f"| {SIZE[0]} x {SIZE[1]} x 3, x 1/4 | ms of processor time | times as fast |\n|---|---|---|")
    first = statistics.median(next(iter(times.values()))[1:])
    for name, measured in times.items():
        kept = measured[1:]  # the first computes the weights
        median = statistics.median(kept)
        print(f"| {name} | {median:.1f} ({min(kept):.1f} - {max(kept):.1f}) | {first / median:.1f} |")


def basicsr_functions() -> ModuleType | None:
    """Returns BasicSR's file of MATLAB functions, loaded alone: the package imports what torchvision has removed."""
    package = importlib.util.find_spec("basicsr")
    if package is None or package.origin is None:
        print("basicsr is left out: pip install --no-deps basicsr", file=sys.stderr)
        return None
    file = Path(package.origin).parent / "utils" / "matlab_functions.py"
    spec = importlib.util.spec_from_file_location("matlab_functions", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
