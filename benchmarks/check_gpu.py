"""Checks and measures everything that needs a GPU; ``bash scripts/check_gpu.sh`` is its command.

Each part runs in a process of its own under a time limit, and the results are written after each part, so that a
machine that is lent for a few minutes leaves what it had time for.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import gpu_parts
import numpy as np
import torch
from gpu_parts import Found, Job, SkippedError
from machine import machine

RESULTS = Path(__file__).parent / "results"


def synthetic_clips(root: Path, size: tuple[int, int], num_frames: int = 30) -> Path:
    """Makes two clips of moving textures in the layout of datasets/demo."""
    rng = np.random.default_rng(0)
    lines = []
    for name in ("000", "001"):
        texture = cv2.resize(rng.integers(0, 256, (90, 160, 3), dtype=np.uint8), (size[1] * 2, size[0] * 2))
        for side, step in (("train_sharp", 1), ("train_sharp_bicubic/X4", 4)):
            (root / side / name).mkdir(parents=True)
            for number in range(num_frames):
                gt = texture[2 * number : 2 * number + size[0], 3 * number : 3 * number + size[1]]
                lq = cv2.resize(gt, (size[1] // step, size[0] // step), interpolation=cv2.INTER_AREA)
                cv2.imwrite(str(root / side / name / f"{number:08d}.png"), lq)
        lines.append(f"{name} {num_frames} ({size[0]},{size[1]},3)\n")
    (root / "meta_info_train.txt").write_text("".join(lines))
    return root


# The seconds that each may take; together under 7 minutes.
PARTS: dict[str, tuple[Callable[[Job], Found], int]] = {
    "tests": (gpu_parts.tests, 120),
    "operators": (gpu_parts.operators, 100),
    "networks": (gpu_parts.networks, 120),
    "memories": (gpu_parts.memories, 60),
    "resume": (gpu_parts.resume, 60),
    "precisions": (gpu_parts.precisions, 45),
    "processes": (gpu_parts.processes, 60),
    "out_of_memory": (gpu_parts.out_of_memory, 45),
    "minute": (gpu_parts.minute, 90),
}


def run_part(name: str, arguments: list[str], limit: int, log: Any) -> Found:
    """Runs a part in a process of its own; returns its results, or why there are none."""
    command = [sys.executable, __file__, "--only", name, *arguments]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        output, error = done.stdout, done.stderr
    except subprocess.TimeoutExpired as expired:
        output, error = (part.decode() if part else "" for part in (expired.stdout, expired.stderr))
        error += f"\nstopped after {limit} s"
    log.write(f"== {name}\n{output}\n{error}\n")
    log.flush()
    lines = [line for line in output.splitlines() if line.startswith("RESULT ")]
    found = json.loads(lines[-1].removeprefix("RESULT ")) if lines else {"failed": (error.strip() or output)[-2000:]}
    return {"seconds": round(time.perf_counter() - start, 1), **found}


def only(name: str, job: Job) -> None:
    """Runs a part in this process and prints its results in one line."""
    try:
        found = {"results": PARTS[name][0](job)}
    except SkippedError as reason:
        found = {"skipped": str(reason)}
    print("RESULT " + json.dumps(found))


def main(arguments: list[str] | None = None) -> int:
    """Runs the parts and returns the exit code: 1 if one failed."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu tries the script itself")
    parser.add_argument("--clips", type=Path, help="a data set in the layout of datasets/demo (synthetic clips)")
    parser.add_argument(
        "--parts", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument("--only", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.only:
        only(args.only, Job(args.device, args.folder, args.clips))
        return 0
    if args.device == "cuda" and not torch.cuda.is_available():
        print("skipped: PyTorch finds no GPU here")
        return 0
    found: Found = {"machine": machine(args.device), "parts": {}}
    file = RESULTS / f"{'gpu' if args.device == 'cuda' else 'cpu_check'}_{date.today().isoformat()}.json"
    file.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, file.with_suffix(".log").open("w") as log:
        clips = args.clips or synthetic_clips(
            Path(folder) / "clips", (96, 128) if args.device == "cpu" else (720, 1280)
        )
        for name in args.parts:
            job = ["--device", args.device, "--folder", folder, "--clips", str(clips.resolve())]
            found["parts"][name] = part = run_part(name, job, PARTS[name][1], log)
            file.write_text(json.dumps(found, indent=1) + "\n")
            state = next(key for key in ("failed", "skipped", "results") if key in part)
            print(
                f"{name:14}{part['seconds']:6.1f} s  {state} {str(part[state])[-300:] if state != 'results' else ''}",
                flush=True,
            )
    failed = [name for name, part in found["parts"].items() if "failed" in part]
    print(f"{file}: {'failed: ' + ', '.join(failed) if failed else 'nothing failed'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
