"""Times the operators beside PyTorch's and torchvision's in one run: deformable and 3×3 convolution, and the warp.

    python benchmarks/ops.py                         CPU, the shapes of EDVR's and BasicVSR++'s patches and frames
    python benchmarks/ops.py --device cuda           GPU: fp32 and bf16, with and without TF32
    python benchmarks/ops.py --save NAME             keeps benchmarks/results/ops_NAME.json
    python benchmarks/ops.py --clock cpu --threads 1 on a machine that others use: time on the core, not on the wall

Every round runs every implementation once, so that a busy machine slows all of them; medians and quartiles are over
the rounds.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from machine import machine
from torch import Tensor
from torch.nn import functional as F

from vsr.engine.precision import has_bf16_units
from vsr.ops import backend, conv3x3, deform_conv2d, flow_warp
from vsr.ops.deform_conv import reference as deform_conv_reference
from vsr.ops.flow_warp import reference as flow_warp_reference

RESULTS = Path(__file__).parent / "results"
ONE = (1, 1)


class Shape(NamedTuple):
    """A 3×3 layer: n images of c channels, h × w, g deformable groups, co output channels; c if that is None."""

    n: int
    c: int
    h: int
    w: int
    g: int
    co: int | None = None

    def __str__(self) -> str:
        return f"{self.n}x{self.c}x{self.h}x{self.w} g{self.g}" + (f" to {self.co}" if self.co else "")


class Warp(NamedTuple):
    """A warp of n images of c channels, h × w."""

    n: int
    c: int
    h: int
    w: int
    padding: Literal["zeros", "border"]

    def __str__(self) -> str:
        return f"warp {self.n}x{self.c}x{self.h}x{self.w} {self.padding}"


class Conv(NamedTuple):
    """A plain 3×3 convolution of n images of c channels, h × w, to co channels; channels_last, as it is fastest."""

    n: int
    c: int
    h: int
    w: int
    co: int

    def __str__(self) -> str:
        return f"conv {self.n}x{self.c}x{self.h}x{self.w} to {self.co}"


Case = Shape | Warp | Conv
SHAPES: dict[str, list[Case]] = {
    "cpu": [
        Shape(5, 64, 64, 64, 8),
        Shape(1, 64, 64, 64, 8),
        Shape(5, 64, 32, 32, 8),
        Shape(5, 128, 64, 64, 8),
        Shape(1, 64, 180, 320, 8),
        Shape(5, 64, 180, 320, 8),
        Shape(1, 128, 64, 64, 16, 64),  # BasicVSR++'s
        Warp(1, 64, 180, 320, "zeros"),
        Warp(1, 64, 64, 64, "zeros"),
        Warp(1, 3, 180, 320, "border"),  # SpyNet's
        Conv(5, 64, 64, 64, 64),
        Conv(5, 64, 64, 64, 216),  # of the offsets and masks
        Conv(5, 64, 16, 16, 64),  # the coarsest level of the pyramid
        Conv(1, 64, 180, 320, 64),
    ],
    "cuda": [
        *(Shape(n, c, h, w, 8) for c in (64, 128) for n, h, w in ((20, 64, 64), (40, 64, 64), (5, 180, 320))),
        Shape(8, 128, 64, 64, 16, 64),
        Shape(1, 128, 180, 320, 16, 64),
        Warp(8, 64, 64, 64, "zeros"),
        Warp(1, 64, 180, 320, "zeros"),
    ],
}


class Row(NamedTuple):
    """One line of the table, in milliseconds and MiB."""

    shape: str
    setting: str
    name: str
    step: str
    fastest: float
    median: float
    quartile_1: float
    quartile_3: float
    peak_mib: float
    rounds: int


def make(shape: Shape, device: str, dtype: torch.dtype, std: float) -> tuple[Tensor, ...]:
    """Returns input, offset, weight, bias, mask and the output's gradient; offsets and mask stay in float32."""
    generator = torch.Generator().manual_seed(0)
    n, c, h, w, g, co = *shape[:5], shape.co or shape.c

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    features = [normal(n, c, h, w), normal(co, c, 3, 3) * 0.05, normal(co), normal(n, co, h, w)]
    input, weight, bias, grad_output = (x.to(device, dtype) for x in features)
    offset, mask = (
        (normal(n, 18 * g, h, w) * std).to(device),
        torch.rand(n, 9 * g, h, w, generator=generator).to(device),
    )
    return input, offset, weight, bias, mask, grad_output


def make_warp(warp: Warp, device: str, dtype: torch.dtype, std: float) -> tuple[Tensor, ...]:
    """Returns features, a flow in float32, and the output's gradient."""
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(*warp[:4], generator=generator).to(device, dtype) for _ in range(2))
    flow = torch.randn(warp.n, 2, warp.h, warp.w, generator=generator) * std
    return x, flow.to(device), grad


def make_conv(conv: Conv, device: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Returns input, weight, bias and the output's gradient, channels_last."""
    generator = torch.Generator().manual_seed(0)
    n, c, h, w, co = conv
    sizes = (n, c, h, w), (co, c, 3, 3), (co,), (n, co, h, w)
    tensors = [torch.randn(size, generator=generator).to(device, dtype) for size in sizes]
    return tuple(x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in tensors)


def convs() -> dict[str, Callable[..., Tensor]]:
    """Returns what is compared: each takes (input, weight, bias)."""
    chosen = backend.require("conv3x3", "cpu")
    compared = {"plain conv2d": lambda x, weight, bias: F.conv2d(x, weight, bias, padding=1)}
    return {f"vsr {chosen}": conv3x3, **compared} if chosen == "compiled" else compared


def warps(device: str, padding: Literal["zeros", "border"]) -> dict[str, Callable[..., Tensor]]:
    """Returns what is compared: each takes (x, flow)."""

    def of_grid_sample(x: Tensor, flow: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        along = {"dtype": flow.dtype, "device": flow.device}
        column, row = torch.arange(w, **along) + flow[:, 0], torch.arange(h, **along).view(-1, 1) + flow[:, 1]
        grid = torch.stack([2 * column / max(w - 1, 1) - 1, 2 * row / max(h - 1, 1) - 1], -1)
        return F.grid_sample(x, grid.to(x.dtype), "bilinear", padding, align_corners=True)

    chosen = backend.require("flow_warp", device)
    found = {
        f"vsr {chosen}": lambda x, flow: flow_warp(x, flow, padding),
        "grid_sample": of_grid_sample,
        "vsr reference": lambda x, flow: flow_warp_reference.flow_warp(x, flow, padding == "border"),
    }
    if chosen == "reference":
        del found["vsr reference"]
    return found


def implementations(device: str, dtype: torch.dtype) -> dict[str, Callable[..., Tensor]]:
    """Returns what is compared: each takes (input, offset, weight, bias, mask)."""
    from torchvision.ops import deform_conv2d as torchvision_op

    def of_torchvision(input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
        tensors = (
            x.float() if dtype == torch.bfloat16 else x for x in (input, offset, weight, bias)
        )  # it has no bfloat16
        return torchvision_op(*tensors, 1, 1, 1, mask).to(dtype)

    def of_vsr(input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
        return deform_conv2d(input, offset, weight, bias, 1, 1, 1, mask)

    def of_reference(input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
        return deform_conv_reference.deform_conv2d(input, offset, weight, bias, mask, ONE, ONE, ONE)

    def conv(input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
        return F.conv2d(input, weight, bias, padding=1)

    chosen = backend.require("deform_conv2d", device)
    found = {
        f"vsr {chosen}": of_vsr,
        "torchvision": of_torchvision,
        "vsr reference": of_reference,
        "plain conv2d": conv,
    }
    if chosen == "reference":
        del found["vsr reference"]
    return found


def steps(op: Callable[..., Tensor], tensors: tuple[Tensor, ...]) -> dict[str, Callable[[], object]]:
    """Returns the two things that are timed: inference, and a training step's share."""
    *inputs, grad_output = tensors
    leaves = [x.detach().requires_grad_() for x in inputs]

    def forward() -> object:
        with torch.no_grad():
            return op(*inputs)

    def both() -> object:
        return torch.autograd.grad(op(*leaves), leaves, grad_output, allow_unused=True)

    return {"forward": forward, "forward+backward": both}


def milliseconds(run: Callable[[], object], device: str, clock: Callable[[], float]) -> float:
    """Returns how long one call takes, the device's work included."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return (clock() - start) * 1e3


def peak_mib(run: Callable[[], object], device: str) -> float:
    """Returns the memory a call needs beyond what is there before it.

    On a CPU it is the growth of the process, sampled, and includes only what the allocator had not kept.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if not sys.platform.startswith("linux"):
        return float("nan")
    sizes: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
            time.sleep(2e-4)

    watcher = threading.Thread(target=watch)
    watcher.start()
    time.sleep(0.002)
    run()
    done.set()
    watcher.join()
    return (max(sizes) - sizes[0]) / 2**20


def measure(shape: Case, device: str, dtype: torch.dtype, setting: str, options: argparse.Namespace) -> list[Row]:
    """Returns the rows of one shape. Rounds go on for ``--seconds``, at least three, after one to warm up."""
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    if isinstance(shape, Warp):
        tensors, compared = make_warp(shape, device, dtype, options.std), warps(device, shape.padding)
    elif isinstance(shape, Conv):
        tensors, compared = make_conv(shape, device, dtype), convs()
    else:
        tensors, compared = make(shape, device, dtype, options.std), implementations(device, dtype)
    runs = {(name, step): run for name, op in compared.items() for step, run in steps(op, tensors).items()}
    memory = {key: peak_mib(run, device) for key, run in runs.items()}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    end = time.perf_counter() + options.seconds
    while len(next(iter(times.values()))) < 3 or time.perf_counter() < end:
        for key, run in runs.items():
            times[key].append(milliseconds(run, device, clock))
    rows = []
    for (name, step), values in times.items():
        first, median, third = statistics.quantiles(values, n=4)
        row = (shape, setting, name, step, min(values), median, first, third, memory[name, step])
        rows.append(Row(str(shape), *row[1:], rounds=len(values)))
    return rows


def print_rows(rows: list[Row]) -> None:
    """Prints the rows of one shape, with how many times faster than PyTorch's operator or torchvision's each is."""
    names = {row.name for row in rows}
    first = next(name for name in ("torchvision", "grid_sample", "plain conv2d") if name in names)
    base = {row.step: row.median for row in rows if row.name == first}
    for row in rows:
        quartiles, times = f"{row.quartile_1:.2f} – {row.quartile_3:.2f}", base[row.step] / row.median
        line = f"| {row.shape:25} | {row.setting:11} | {row.name:13} | {row.step:16} | {row.fastest:8.2f} "
        print(line + f"| {row.median:8.2f} | {quartiles:19} | {times:6.1f}x | {row.peak_mib:5.0f} |", flush=True)


def settings(device: str) -> list[tuple[str, torch.dtype, bool]]:
    """Returns name, dtype of the features, and whether matrix products may use TF32."""
    if device == "cpu":
        units = [("bf16", torch.bfloat16, False)] if has_bf16_units(torch.device(device)) else []
        return [("fp32", torch.float32, False), *units]
    return [("fp32", torch.float32, False), ("fp32 + TF32", torch.float32, True), ("bf16", torch.bfloat16, True)]


def main(words: list[str] | None = None) -> None:
    """Prints the table, and keeps it with ``--save``."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shapes", type=int, help="only the first so many shapes")
    parser.add_argument("--only", default="", help="only the shapes whose description contains this: warp, 'g16'")
    parser.add_argument("--std", type=float, default=1.0, help="spread of the offsets, in pixels (1)")
    parser.add_argument("--seconds", type=float, default=20.0, help="time for each shape (20)")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="time that passes, or that is computed"
    )
    parser.add_argument("--threads", type=int, help="PyTorch's CPU threads (all cores)")
    parser.add_argument("--note", default="", help="kept with the results: who else used the machine")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/ops_NAME.json")
    arguments = parser.parse_args(words)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    facts = {**machine(arguments.device), "offset std": arguments.std, "clock": arguments.clock, "note": arguments.note}
    print("\n".join(f"{key}: {value}" for key, value in facts.items()))
    print("| shape | setting | by | step | fastest ms | median ms | quartiles | times as fast | peak MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows: list[Row] = []
    shapes = [shape for shape in SHAPES[arguments.device] if arguments.only in str(shape)]
    for shape in shapes[: arguments.shapes]:
        for setting, dtype, tf32 in settings(arguments.device):
            for operator in (torch.backends.cuda.matmul, torch.backends.cudnn.conv):
                operator.fp32_precision = "tf32" if tf32 else "ieee"
            found = measure(shape, arguments.device, dtype, setting, arguments)
            print_rows(found)
            rows += found
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"ops_{arguments.save}.json"
        path.write_text(json.dumps({**facts, "rows": [row._asdict() for row in rows]}, indent=1) + "\n")
        print(f"written: {path}")


if __name__ == "__main__":
    main()
