"""Times one training step of EDVR-M: the published network with torchvision's operator, and ours, in one run.

    pip install --no-deps basicsr
    python benchmarks/training_step.py                  # CPU, one window of five 64 x 64 frames
    python benchmarks/training_step.py --device cuda    # also in bfloat16
    python benchmarks/training_step.py --save NAME      # keeps benchmarks/results/training_step_NAME.json

A step is forward, Charbonnier loss, backward, Adam. Both networks have the same weights, and their losses are compared
before anything is timed. They take turns, so that a busy machine slows both; on Linux freed memory is kept, as
``vsr.train`` does, for both.
"""

import argparse
import json
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision.transforms.functional as functional
from ops import RESULTS, machine
from torch import nn

from vsr.archs import EDVR
from vsr.losses.pixel import charbonnier_loss
from vsr.utils.memory import keep_freed_memory

EDVR_M = {"num_feat": 64, "num_extract_block": 5, "num_reconstruct_block": 10}


def basicsr_edvr() -> nn.Module:
    """Returns BasicSR's EDVR-M."""
    moved = types.ModuleType("torchvision.transforms.functional_tensor")  # basicsr imports a module that is gone
    moved.rgb_to_grayscale = functional.rgb_to_grayscale
    sys.modules[moved.__name__] = moved
    try:
        from basicsr.archs import edvr_arch
    except ModuleNotFoundError as error:
        sys.exit(f"{error}: pip install --no-deps basicsr")
    return edvr_arch.EDVR(**EDVR_M)


def step(network: nn.Module, lq: torch.Tensor, gt: torch.Tensor, amp: bool) -> Callable[[], float]:
    """Returns a function that makes one optimiser step and returns the loss."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(lq.device.type, torch.bfloat16, enabled=amp):
            sr = network(lq)
        loss = charbonnier_loss(sr.float(), gt)
        loss.backward()
        optimizer.step()
        return loss.item()  # waits for the device

    return run


def main() -> None:
    """Measures, prints a table and keeps it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=int, default=1, help="windows in a batch")
    parser.add_argument("--size", type=int, default=64, help="side of a frame")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--save", metavar="NAME")
    parser.add_argument("--note", default="", help="kept with the results: who else used the machine")
    options = parser.parse_args()
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    keep_freed_memory()
    torch.manual_seed(0)

    theirs, ours = basicsr_edvr(), EDVR(**EDVR_M)
    ours.load_state_dict(theirs.state_dict())
    lq = torch.rand(options.batch, 5, 3, options.size, options.size, device=options.device)
    gt = torch.rand(options.batch, 3, 4 * options.size, 4 * options.size, device=options.device)
    runs = {}
    for amp in (False, True) if options.device == "cuda" else (False,):
        for name, network in (("basicsr + torchvision", theirs), ("vsr", ours)):
            copy = type(network)(**EDVR_M)
            copy.load_state_dict(network.state_dict())
            runs[f"{name}, {'bf16' if amp else 'fp32'}"] = step(copy.to(options.device), lq, gt, amp)
    first = {name: run() for name, run in runs.items()}  # also warms up
    print("loss of the first step: " + ", ".join(f"{name} {loss:.6f}" for name, loss in first.items()))

    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            start = clock()
            run()
            times[name].append((clock() - start) * 1e3)
    base = statistics.median(times["basicsr + torchvision, fp32"])
    rows = {}
    print("| network | ms per step, median (fastest - slowest) | times as fast |\n|---|---|---|")
    for name, values in times.items():
        median = statistics.median(values)
        rows[name] = {"median": median, "fastest": min(values), "slowest": max(values)}
        print(f"| {name} | {median:.0f} ({min(values):.0f} - {max(values):.0f}) | {base / median:.2f} |")
    if options.save:
        shape = f"{options.batch}x5x3x{options.size}x{options.size}"
        kept = {"machine": {**machine(options.device), "clock": options.clock, "note": options.note}, "shape": shape}
        file = Path(RESULTS) / f"training_step_{options.save}.json"
        file.write_text(json.dumps({**kept, "first_loss": first, "milliseconds": rows}, indent=1) + "\n")
        print(f"written: {file}")


if __name__ == "__main__":
    main()
