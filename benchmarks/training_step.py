"""Times one training step of EDVR-M: the published network with torchvision's operator, and ours, in one run.

    pip install --no-deps basicsr
    python benchmarks/training_step.py                  # CPU, one window of five 64 x 64 frames
    python benchmarks/training_step.py --device cuda    # also in bfloat16
    python benchmarks/training_step.py --save NAME      # keeps benchmarks/results/training_step_NAME.json

A step is forward, Charbonnier loss, backward, Adam. Both networks have the same weights, and their losses are compared
before anything is timed; without basicsr, ours is timed alone. Each runs in a process of its own, as it would be
trained: ours keeps freed memory, as ``vsr.train`` does on Linux; with ``--keep_freed_memory`` so does the other. They
take turns, so that a busy machine slows both.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
import types
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from machine import machine
from torch import nn
from tqdm import tqdm

from vsr.archs import EDVR
from vsr.losses.pixel import charbonnier_loss
from vsr.utils.allocator import keep_freed_memory

RESULTS = Path(__file__).parent / "results"
EDVR_M = {"num_feat": 64, "num_extract_block": 5, "num_reconstruct_block": 10}


def basicsr_edvr() -> nn.Module:
    """Returns BasicSR's EDVR-M."""
    from torchvision.transforms import functional

    moved = types.ModuleType("torchvision.transforms.functional_tensor")  # basicsr imports a module that is gone
    moved.rgb_to_grayscale = functional.rgb_to_grayscale
    sys.modules[moved.__name__] = moved
    from basicsr.archs import edvr_arch

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


def serve(connection: Connection, name: str, options: argparse.Namespace) -> None:
    """Makes one step per request and answers with its milliseconds and its loss."""
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    if name.startswith("vsr") or options.keep_freed_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    network = EDVR(**EDVR_M)
    if name.startswith("basicsr"):
        weights, network = network.state_dict(), basicsr_edvr()
        network.load_state_dict(weights)
    torch.manual_seed(1)
    lq = torch.rand(options.batch, 5, 3, options.size, options.size, device=options.device)
    gt = torch.rand(options.batch, 3, 4 * options.size, 4 * options.size, device=options.device)
    run = step(network.to(options.device), lq, gt, amp=name.endswith("bf16"))
    with suppress(EOFError):  # where the main process has ended
        while connection.recv():
            start = clock()
            loss = run()
            connection.send(((clock() - start) * 1e3, loss))


def main(words: list[str] | None = None) -> None:
    """Measures, prints a table, and keeps it with ``--save``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=int, default=1, help="windows in a batch")
    parser.add_argument("--size", type=int, default=64, help="side of a frame")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--keep_freed_memory", action="store_true", help="of the published network, too")
    parser.add_argument("--save", metavar="NAME")
    parser.add_argument("--note", default="", help="kept with the results: who else used the machine")
    options = parser.parse_args(words)
    precisions = ("fp32", "bf16") if options.device == "cuda" else ("fp32",)
    networks = ("basicsr + torchvision", "vsr")
    if find_spec("basicsr") is None:
        print("basicsr is left out: pip install --no-deps basicsr", file=sys.stderr)
        networks = ("vsr",)
    names = [f"{network}, {precision}" for precision in precisions for network in networks]
    times: dict[str, list[float]] = {name: [] for name in names}
    first = {}
    connections = {}
    start = multiprocessing.get_context("spawn")
    for name in names:
        connections[name], end = start.Pipe()
        start.Process(target=serve, args=(end, name, options), daemon=True).start()
        end.close()  # so that a process that dies is noticed
    for number in tqdm(range(options.rounds + 1), unit="round"):
        for name, connection in connections.items():
            connection.send(True)
            try:
                milliseconds, loss = connection.recv()
            except (EOFError, ConnectionError):
                sys.exit(f"{name}: its process ended; the message above says why")
            if number == 0:  # warms up
                first[name] = loss
            else:
                times[name].append(milliseconds)
    for connection in connections.values():
        connection.send(False)
    print("loss of the first step: " + ", ".join(f"{name} {loss:.6f}" for name, loss in first.items()))

    base = statistics.median(times[names[0]])
    rows = {}
    print("| network | ms per step, median (fastest - slowest) | times as fast |\n|---|---|---|")
    for name, values in times.items():
        median = statistics.median(values)
        rows[name] = {"median": median, "fastest": min(values), "slowest": max(values)}
        print(f"| {name} | {median:.0f} ({min(values):.0f} - {max(values):.0f}) | {base / median:.2f} |")
    if options.save:
        shape = f"{options.batch}x5x3x{options.size}x{options.size}"
        how = {"clock": options.clock, "freed_memory_kept_by_both": options.keep_freed_memory, "note": options.note}
        kept = {"machine": {**machine(options.device), **how}, "shape": shape}
        file = RESULTS / f"training_step_{options.save}.json"
        file.write_text(json.dumps({**kept, "first_loss": first, "milliseconds": rows}, indent=1) + "\n")
        print(f"written: {file}")


if __name__ == "__main__":
    main()
