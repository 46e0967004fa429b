"""Measures this package against another checkout of it, and writes docs/performance.md from what was measured.

    git worktree add --detach ../old COMMIT && (cd ../old && python setup.py build_ext --inplace)
    bash scripts/demo.sh                                 # once, for the clips of the training loop
    python benchmarks/performance.py --measure ../old    # about an hour on two cores; then writes the page
    python benchmarks/performance.py                     # writes the page from benchmarks/results/*_performance*.json

Each measurement is a benchmark of its own, whose processes take turns, so that both packages meet the same machine.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import precision
import whole_space

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results", HERE.parent / "docs/performance.md"
STEPS = {  # the results' names, and the options of training_step.py
    "bf16_channels_last": ["--precision", "bf16", "--channels_last"],
    "float32_channels_last": ["--channels_last"],
    "float32": [],
    "float32_channels_last_avx2": ["--channels_last"],
}
FRAMES = {"performance": ["--precision", "bf16", "float32"], "performance_avx2": ["--precision", "float32"]}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "VSR_CPU_ISA": "avx2"}  # of both packages
LARGE_FRAMES = {  # one after another: in float32 a process takes about 20 GiB
    f"performance_540_{precision}": ["--size", "540", "960", "--frames", "5", "--precision", precision]
    for precision in ("bf16", "float32")
}
TEXT = """# Performance

This page is written by `python benchmarks/performance.py` from `benchmarks/results/`; `--measure PATH` measures first,
against another checkout whose libraries are built. The packages take turns in one run. "Times" above 1 means that this
version is faster. Processor time is what a busy machine disturbs least.

## What to choose

| machine | training | restoring |
|---|---|---|
| CPU with AMX or AVX512-BF16 | `train.amp: auto` (bf16), `train.channels_last: auto` | `auto` (bf16) |
| other CPU with AVX-512 | `train.amp: auto` (off), `train.channels_last: auto` | `auto` (float32) |
| other CPU | `train.channels_last: auto`; bfloat16 is slower than float32 | `auto` (float32) |
| GPU | `train.amp: auto`, `train.channels_last: true`; not measured yet, see [ops.md](ops.md) | `auto` |

`vsr upscale` restores with `--precision auto`; `vsr test` with `val.precision: float32`, as published numbers are.
On CPUs without these units bfloat16 is emulated: correct, and slower than float32. AVX512-BF16 multiplies bfloat16
twice as fast as float32, but float32's 3×3 convolutions multiply less often ([ops.md](ops.md#the-33-convolution)), so
that bfloat16 gains less; the tables below name the machine. AMX multiplies bfloat16 several times as fast; there 3×3
convolutions of bfloat16 are PyTorch's. It has not been measured. "AVX2 only" takes wider instructions from both packages
by `VSR_CPU_ISA=avx2`, `ONEDNN_MAX_CPU_ISA=AVX2` and `ATEN_CPU_CAPABILITY=avx2`.
"""


def measure(other: Path, note: str) -> None:
    """Runs the benchmarks, each in its own process, and keeps their results."""
    for name, words in STEPS.items():
        run("training_step", [*words, "--against", str(other), "--save", f"performance_{name}", "--note", note], name)
    for name, words in FRAMES.items():
        run("inference", [*words, "--threads", "2", "--against", str(other), "--save", name, "--note", note], name)
    run("precision", ["--save", "performance", "--note", note])
    run("ceiling", ["--threads", "2", "--save", "performance", "--note", note])
    for script in ("training_loop", "whole_space"):
        run(script, ["--save", "performance", "--note", note])
    for name, words in LARGE_FRAMES.items():  # the last: memory may not suffice
        run("inference", [*words, "--threads", "2", "--save", name, "--note", note])


def run(script: str, words: list[str], name: str = "") -> None:
    """Runs a benchmark of this folder; its table is printed. Those whose name ends in avx2 have no other vectors."""
    environment = {**os.environ, **AVX2} if name.endswith("_avx2") else None
    subprocess.run([sys.executable, str(HERE / f"{script}.py"), *words], check=True, env=environment)


def page(results: Path) -> str:
    """Returns the page of the results in a folder; the parts that were not measured are left out."""
    parts = [TEXT]
    steps = {name: read(results / f"training_step_performance_{name}.json") for name in STEPS}
    if any(steps.values()):
        parts += ["## One training step of EDVR-M", table_of_steps({n: kept for n, kept in steps.items() if kept})]
    for name in FRAMES:
        if kept := read(results / f"inference_{name}.json"):
            only = " with AVX2 only" if name.endswith("_avx2") else ""
            parts += [f"## One restored frame of EDVR-M{only}", table_of_frames(kept)]
    if kept := read(results / "ceiling_performance.json"):
        frames = read(results / f"inference_{next(iter(FRAMES))}.json")
        parts += ["## What PyTorch's convolutions would take", table_of_ceiling(kept, steps, frames)]
    large = [kept for name in LARGE_FRAMES if (kept := read(results / f"inference_{name}.json"))]
    if large:
        parts += ["## One large restored frame of EDVR-M", table_of_large_frames(large)]
    if kept := read(results / "precision_performance.json"):
        parts += ["## Accuracy of 16 bits", table_of_accuracy(kept)]
    if kept := read(results / "training_loop_performance.json"):
        parts += ["## The training loop", table_of_loop(kept)]
    if kept := read(results / "whole_space_performance.json"):
        parts += ["## pixsentence beside bare attention", table_of_attention(kept)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def read(file: Path) -> dict[str, Any] | None:
    """Returns kept results; None if there are none."""
    return json.loads(file.read_text()) if file.exists() else None


def table_of_steps(kept: dict[str, dict[str, Any]]) -> str:
    """Returns a row for each way of training."""
    first = next(iter(kept.values()))
    lines = [f"One window, {first['shape']}. {about(first['machine'])}", ""]
    lines += [
        "| precision, layout | this version, processor ms | the other | times: processor | times: wall | peak MiB |"
    ]
    lines += ["|---|---|---|---|---|---|"]
    for name, result in kept.items():
        ours, other = sides(result["rows"])
        layout = "channels_last" if result["machine"]["channels_last"] else "contiguous"
        layout += ", AVX2 only" if name.endswith("_avx2") else ""
        times = [other[clock] / ours[clock] for clock in ("cpu_ms", "wall_ms")]
        lines.append(
            f"| {result['machine']['precision']}, {layout} | {ours['cpu_ms']:.0f} | {other['cpu_ms']:.0f} "
            f"| {times[0]:.2f} | {times[1]:.2f} | {ours['peak_mib']} against {other['peak_mib']} |"
        )
    return "\n".join(lines)


def table_of_frames(kept: dict[str, Any]) -> str:
    """Returns a row for each precision; the other version computes in float32, as its ``vsr.test`` does."""
    machine, rows = kept["machine"], kept["rows"]
    height, width = machine["size"]
    lines = [f"{machine['frames']} frames of {width}×{height}, ×4. {about(machine)}", ""]
    lines += ["| precision | processor s per frame | the other, float32 | times: processor | times: wall | peak MiB |"]
    lines += ["|---|---|---|---|---|---|"]
    other = sides(rows)[1]
    for name, ours in rows.items():
        if name.startswith("vsr, "):
            times = [other[clock] / ours[clock] for clock in ("cpu_seconds", "wall_seconds")]
            lines.append(
                f"| {name.removeprefix('vsr, ')} | {ours['cpu_seconds']:.2f} | {other['cpu_seconds']:.2f} "
                f"| {times[0]:.2f} | {times[1]:.2f} | {ours['peak_mib']} against {other['peak_mib']} |"
            )
    return "\n".join(lines)


def table_of_ceiling(kept: dict[str, Any], steps: dict[str, Any], frames: dict[str, Any] | None) -> str:
    """Returns a row for each precision: how long the multiplications would take at PyTorch's rate, and what we take."""
    machine = kept["machine"]
    lines = [
        f"A step multiplies and adds {kept['step_gmacs']:.0f}·10⁹ times, a frame with its neighbours' features at hand "
        f"{kept['frame_gmacs']:.0f}·10⁹ times.",
        "At the rate of PyTorch's 3×3 convolution of 64 channels that alone would take the following times, without "
        "anything else.",
        "Ours are shorter where the 3×3 convolution saves more than all the rest takes. Measured by "
        f"`benchmarks/ceiling.py`, {about(machine)}",
        "",
        "| precision | 10⁹ a second of a core | step at that rate, ms | ours | frame at that rate, s | ours |",
        "|---|---|---|---|---|---|",
    ]
    ours = {name: next(iter(result["rows"].values()))["cpu_ms"] for name, result in steps.items() if result}
    restored = {} if frames is None else {n.removeprefix("vsr, "): r["cpu_seconds"] for n, r in frames["rows"].items()}
    for name, row in kept["rows"].items():
        step, frame = ours.get(f"{name}_channels_last"), restored.get(name)
        lines.append(
            f"| {name} | {row['gmacs_per_second']:.0f} | {row['step_ms']:.0f} | {f'{step:.0f}' if step else '–'} "
            f"| {row['frame_seconds']:.2f} | {f'{frame:.2f}' if frame else '–'} |"
        )
    return "\n".join(lines)


def table_of_large_frames(kept: list[dict[str, Any]]) -> str:
    """Returns a row for each result, of this version alone."""
    machine = kept[0]["machine"]
    height, width = machine["size"]
    clip = f"The middle one of {machine['frames']} frames of {width}×{height}, ×4, without tiles"
    lines = [f"{clip}. {about(machine)}", "", "| precision | processor s | wall s | peak MiB |", "|---|---|---|---|"]
    for result in kept:
        for name, row in result["rows"].items():
            times = f"{row['cpu_seconds']:.1f} | {row['wall_seconds']:.1f} | {row['peak_mib']}"
            lines.append(f"| {name.removeprefix('vsr, ')} | {times} |")
    return "\n".join(lines)


def table_of_accuracy(kept: dict[str, Any]) -> str:
    """Returns a row for each pair of precisions, of training and of testing."""
    machine = kept["machine"]
    what = f"`benchmarks/precision.py -opt options/{machine['options']} --seeds {machine['seeds']}`: PSNR on held-out"
    lines = [f"{what} frames, each seed trained in float32 and", f"in bf16. {about(machine)}", ""]
    return "\n".join([*lines, *precision.HEAD, *precision.lines_of(kept["rows"])])


def table_of_loop(kept: dict[str, Any]) -> str:
    """Returns a row for each part of an iteration."""
    machine = kept["machine"]
    what = f"`vsr train -opt options/{machine['options']} --set {' --set '.join(machine['set'])}`"
    lines = [f"{what}, the main process's processor time of {machine['iterations']} iterations. {about(machine)}", ""]
    lines += ["| part of an iteration | processor ms | share |", "|---|---|---|"]
    lines += [f"| {row['part']} | {row['ms']:.2f} | {row['share']:.2%} |" for row in kept["rows"]]
    workers = f"The loader's workers take {kept['workers_ms']:.0f} ms an iteration beside it."
    wait = "A step waits for the device once, for the flags: a step that is not finite changes nothing."
    return "\n".join([*lines, "", f"{workers} {wait}"])


def table_of_attention(kept: dict[str, Any]) -> str:
    """Returns a row for each map, precision and form."""
    about_forms = [
        "`vsr` is [pixsentence](memory.md), `bare` is `scaled_dot_product_attention` with the same widths, `naive`",
        "computes all scores. Five frames; `f` is a forward pass, `f+b` also backward. The peak is what a pass adds to",
        f"the features. {about(kept['machine'])}",
    ]
    return "\n".join([*about_forms, "", *whole_space.HEAD, *whole_space.lines_of(kept["rows"])])


def sides(rows: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the first row of this version and the row of the other one."""
    return next(iter(rows.values())), next(row for name, row in rows.items() if name.startswith("vsr at"))


def about(machine: dict[str, Any]) -> str:
    """Returns a sentence on when and where something was measured."""
    note = f"; {machine['note']}" if machine["note"] else ""
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    return f"{machine['date']}, {machine['device']}, {threads}, torch {machine['torch']}{note}."


def main(words: list[str] | None = None) -> None:
    """Measures where it is asked to, and writes the page."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", type=Path, metavar="PATH", help="another checkout of vsr, with its libraries")
    parser.add_argument("--note", default="", help="kept with the results: which commit PATH is, who used the machine")
    options = parser.parse_args(words)
    if options.measure:
        measure(options.measure, options.note)
    PAGE.write_text(page(RESULTS))
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
