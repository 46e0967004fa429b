"""Times EDVR-M restoring a clip, frame by frame, as ``vsr.test`` does: reading, network, rounding.

    python benchmarks/inference.py                     # a CPU thread, 30 frames of 180 x 320
    python benchmarks/inference.py --against ../other  # also the package of another checkout, with its libraries built
    python benchmarks/inference.py --precision bf16 float32
    python benchmarks/inference.py --size 540 960 --frames 5    # a large frame, without tiles: about 20 GiB
    pip install --no-deps basicsr                      # adds BasicSR's network and loop
    python benchmarks/inference.py --save NAME         # keeps benchmarks/results/inference_NAME.json

All networks have the same weights and frames, and each runs in a process of its own. They take turns, a frame each, so
that a busy machine slows all. The first and the last five frames are left out: the former fill caches. Of the others,
the table has the mean processor time and the mean wall time, the peak of the process's memory, and how many levels of
255 the frames differ at most from the first row's.
"""

import argparse
import json
import statistics
import sys
import types
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from turns import answers_in_turn, keep_freed_memory, serve, started

RESULTS = Path(__file__).parent / "results"
EDVR_M = {"num_feat": 64, "num_extract_block": 5, "num_reconstruct_block": 10}
NUM_FRAME = 5
LEFT_OUT = 5  # frames at each end of the clip


def frames_of(length: int, height: int, width: int) -> np.ndarray:
    """Returns a clip of smooth moving patterns and some noise, (t, h, w, 3) uint8."""
    t, y, x, c = np.meshgrid(*map(np.arange, (length, height, width, 3)), indexing="ij")
    clip = 128 + 60 * np.sin(0.11 * (x + 2 * t) + c) + 40 * np.cos(0.07 * (y - t))
    return (clip + np.random.default_rng(0).normal(0, 5, clip.shape)).clip(0, 255).astype(np.uint8)


def with_weights(network: nn.Module, seed: int = 0) -> nn.Module:
    """Sets a network's parameters by their names, so that another implementation has the same; offsets of a pixel."""
    for name, parameter in sorted(network.named_parameters()):
        generator = torch.Generator().manual_seed(seed + sum(map(ord, name)))
        fan_in = max(parameter[0].numel(), 1) if parameter.ndim > 1 else 1
        spread = 0 if parameter.ndim == 1 else 0.5 / fan_in**0.5
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    return network.eval()


def restored_by_vsr(clip: np.ndarray, device: torch.device, options: dict[str, Any]) -> Iterator[np.ndarray]:
    """Yields the frames that the package on the path restores, whichever of its loops it has."""
    from vsr.archs import EDVR

    keep_freed_memory()
    network = with_weights(EDVR(**EDVR_M)).to(device)
    try:
        from vsr.contracts import Clip
        from vsr.evaluation.restore import restore, steps_of
    except ImportError:
        yield from restored_by_windows(network, clip, device)
        return
    names = tuple(map(str, range(len(clip))))
    steps = list(steps_of(network.spec, [Clip("clip", names, clip.__getitem__, None, range(len(clip)), "replicate")]))
    for frame in restore(network, steps, device, **options):
        yield frame.sr


def restored_by_basicsr(clip: np.ndarray, device: torch.device, _: dict[str, Any]) -> Iterator[np.ndarray]:
    """Yields the frames that BasicSR restores."""
    from torchvision.transforms import functional

    moved = types.ModuleType("torchvision.transforms.functional_tensor")  # basicsr imports a module that is gone
    moved.rgb_to_grayscale = functional.rgb_to_grayscale
    sys.modules[moved.__name__] = moved
    from basicsr.archs import edvr_arch

    yield from restored_by_windows(with_weights(edvr_arch.EDVR(**EDVR_M)).to(device), clip, device)


def restored_by_windows(network: nn.Module, clip: np.ndarray, device: torch.device) -> Iterator[np.ndarray]:
    """Yields frames restored as in BasicSR's loop: float frames in memory, a window for each frame, then pixels."""
    floats = torch.from_numpy(clip.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    reach = NUM_FRAME // 2
    for index in range(len(clip)):
        chosen = torch.arange(index - reach, index + reach + 1).clamp(0, len(clip) - 1)
        with torch.no_grad():
            sr = network(floats.index_select(0, chosen).unsqueeze(0).to(device))
        pixels = sr[0].detach().float().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
        yield (pixels * 255).round().astype(np.uint8)


def serve_frames(options: argparse.Namespace) -> None:
    """Restores a frame per request; answers with some of its pixels."""
    torch.set_num_threads(options.threads)
    clip, device = frames_of(options.frames, *options.size), torch.device(options.device)
    loop = restored_by_basicsr if options.serve == "basicsr" else restored_by_vsr
    restored = loop(clip, device, {"precision": options.precision[0]} if options.serve == "vsr" else {})

    def work() -> dict[str, Any]:
        frame = next(restored)
        return {"pixels": frame[:: max(len(frame) // 8, 1), :: max(len(frame[0]) // 8, 1)].tolist()}

    serve(work)


def main(words: list[str] | None = None) -> None:
    """Measures, prints a table, and keeps it with ``--save``."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, metavar="PATH", help="another checkout of vsr, with its libraries")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    precisions = ["float32", "bf16", "fp16", "auto"]
    parser.add_argument(
        "--precision", choices=precisions, nargs="+", default=["float32"], help="ours, one after another"
    )
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--size", type=int, nargs=2, default=(180, 320), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", metavar="NAME")
    parser.add_argument("--note", default="", help="kept with the results: who else used the machine")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.serve:
        return serve_frames(options)
    here = Path(__file__).parents[1]
    first = options.precision[0]
    packages = {f"vsr, {precision}": ("vsr", here, precision) for precision in options.precision}
    if options.against:
        from machine import checkout

        packages[checkout(options.against)] = ("other", options.against, first)
    if find_spec("basicsr") is None:
        print("basicsr is left out: pip install --no-deps basicsr", file=sys.stderr)
    else:
        packages["basicsr"] = ("basicsr", here, first)
    passed_on = ["--device", options.device, "--frames", str(options.frames)]
    passed_on += ["--size", *map(str, options.size), "--threads", str(options.threads)]
    processes = {
        name: started(__file__, [*passed_on, "--serve", role, "--precision", precision], path)
        for name, (role, path, precision) in packages.items()
    }
    report(answers_in_turn(processes, options.frames, "frame"), options)


def report(answers: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """Prints the table, and how far the restored frames differ from the first row's; keeps both with ``--save``."""
    left_out = min(LEFT_OUT, (options.frames - 1) // 2)
    middle = slice(left_out, options.frames - left_out)
    rows = {}
    for name, own in answers.items():
        cpu, wall = (statistics.mean(answer["seconds"][i] for answer in own[middle]) for i in range(2))
        pixels = [np.array([answer["pixels"] for answer in answers[n]], int) for n in (name, next(iter(answers)))]
        rows[name] = {
            "cpu_seconds": cpu,
            "wall_seconds": wall,
            "peak_mib": own[-1]["peak_mib"],
            "largest_difference": int(abs(pixels[0] - pixels[1]).max()),
        }
    print(
        "| package | processor seconds per frame | wall | the first is as fast, times: processor, wall | MiB | levels |"
    )
    print("|---|---|---|---|---|---|")
    ours = next(iter(rows.values()))
    for name, row in rows.items():
        ratios = (row[clock] / ours[clock] for clock in ("cpu_seconds", "wall_seconds"))
        faster = "{:.2f}, {:.2f}".format(*ratios)
        seconds = f"{row['cpu_seconds']:.3f} | {row['wall_seconds']:.3f}"
        print(f"| {name} | {seconds} | {faster} | {row['peak_mib']} | {row['largest_difference']} |")
    if options.save:
        from machine import machine

        settings = {"frames": options.frames, "size": list(options.size), "precision": options.precision}
        about = {**machine(options.device), "threads": options.threads, **settings, "note": options.note}
        file = RESULTS / f"inference_{options.save}.json"
        file.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")
        print(f"written: {file}")


if __name__ == "__main__":
    main()
