"""Times one training step of EDVR-M: this package's, another checkout's, and BasicSR's with torchvision's operator.

    python benchmarks/training_step.py                     # CPU, one window of five 64 x 64 frames
    python benchmarks/training_step.py --against ../other  # also the package of another checkout, with its libraries
    python benchmarks/training_step.py --precision bf16 --channels_last
    python benchmarks/training_step.py --device cuda
    pip install --no-deps basicsr                          # adds BasicSR's network
    python benchmarks/training_step.py --save NAME         # keeps benchmarks/results/training_step_NAME.json

A step is forward, Charbonnier loss, backward, Adam. All networks have the same weights, and their first losses are
printed. Each runs in a process of its own, as it would be trained, and they take turns. Ours keep freed memory, as
``vsr.train`` does on Linux; with ``--keep_freed_memory`` so does BasicSR's.
"""

import argparse
import json
import statistics
import sys
import types
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from turns import answers_in_turn, keep_freed_memory, serve, started

from vsr.archs import EDVR
from vsr.losses.pixel import charbonnier_loss

HERE = Path(__file__).parents[1]
RESULTS = HERE / "benchmarks/results"
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


def serve_steps(options: argparse.Namespace) -> None:
    """Makes a step per request; answers with its loss."""
    torch.set_num_threads(options.threads)
    if options.serve == "vsr" or options.keep_freed_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    network = EDVR(**EDVR_M)
    if options.serve == "basicsr":
        weights, network = network.state_dict(), basicsr_edvr()
        network.load_state_dict(weights)
    torch.manual_seed(1)
    lq = torch.rand(options.batch, 5, 3, options.size, options.size, device=options.device)
    gt = torch.rand(options.batch, 3, 4 * options.size, 4 * options.size, device=options.device)
    network = network.to(options.device)
    if options.channels_last and options.serve == "vsr":
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
    run = step(network, lq, gt, amp=options.precision == "bf16")
    serve(lambda: {"loss": run()})


def main(words: list[str] | None = None) -> None:
    """Measures, prints a table, and keeps it with ``--save``."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, metavar="PATH", help="another checkout of vsr, with its libraries")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--channels_last", action="store_true", help="of ours and the other checkout's")
    parser.add_argument("--batch", type=int, default=1, help="windows in a batch")
    parser.add_argument("--size", type=int, default=64, help="side of a frame")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--keep_freed_memory", action="store_true", help="of the published network, too")
    parser.add_argument("--save", metavar="NAME")
    parser.add_argument("--note", default="", help="kept with the results: who else used the machine")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.serve:
        return serve_steps(options)
    packages: dict[str, tuple[str, Path]] = {"vsr": ("vsr", HERE)}
    if options.against:
        from machine import checkout

        packages[checkout(options.against)] = ("vsr", options.against)
    if find_spec("basicsr") is None:
        print("basicsr is left out: pip install --no-deps basicsr", file=sys.stderr)
    else:
        packages["basicsr"] = ("basicsr", HERE)
    names = ("device", "precision", "batch", "size", "threads")
    passed_on = [word for name in names for word in (f"--{name}", str(getattr(options, name)))]
    passed_on += [f"--{name}" for name in ("channels_last", "keep_freed_memory") if getattr(options, name)]
    processes = {
        name: started(__file__, [*passed_on, "--serve", role], path) for name, (role, path) in packages.items()
    }
    report(answers_in_turn(processes, options.rounds + 1, "round"), options)  # the first warms up


def report(answers: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """Prints the table, and keeps it with ``--save``."""
    rows = {}
    for name, own in answers.items():
        cpu, wall = (statistics.median(answer["seconds"][i] * 1e3 for answer in own[1:]) for i in range(2))
        rows[name] = {"cpu_ms": cpu, "wall_ms": wall, "peak_mib": own[-1]["peak_mib"], "first_loss": own[0]["loss"]}
    print("| package | processor ms per step | wall ms | ours is as fast, times: processor, wall | MiB | first loss |")
    print("|---|---|---|---|---|---|")
    for name, row in rows.items():
        faster = ", ".join(f"{row[clock] / rows['vsr'][clock]:.2f}" for clock in ("cpu_ms", "wall_ms"))
        times = f"{row['cpu_ms']:.0f} | {row['wall_ms']:.0f}"
        print(f"| {name} | {times} | {faster} | {row['peak_mib']} | {row['first_loss']:.6f} |")
    if options.save:
        from machine import machine

        shape = f"{options.batch}x5x3x{options.size}x{options.size}"
        how = {"threads": options.threads, "precision": options.precision, "channels_last": options.channels_last}
        how |= {"freed_memory_kept_by_all": options.keep_freed_memory, "note": options.note}
        file = RESULTS / f"training_step_{options.save}.json"
        about = {**machine(options.device), **how}
        file.write_text(json.dumps({"machine": about, "shape": shape, "rows": rows}, indent=1) + "\n")
        print(f"written: {file}")


if __name__ == "__main__":
    main()
