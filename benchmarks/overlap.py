"""Tabulates how tiles and segments change restored frames, by their overlap.

    python benchmarks/overlap.py --weights FILE --clip datasets/demo/train_sharp/000 --frames 30 --size 96
    python benchmarks/overlap.py --weights FILE --clip film.mp4   # frames of the longest shot, made smaller as LQ
    python benchmarks/overlap.py -opt options/demo.yml --weights FILE   # the first clip of the options' test set

A square of each frame is restored in 2 x 2 tiles, which share exactly the overlap. Each row compares with the frames
that are restored whole, a clip in one call: the mean and the largest difference in levels of 255, the share of values
that differ by more than 2 levels, and the change of PSNR against the ground truth. Segments concern networks of clips
only.
"""

import argparse
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vsr import config
from vsr.archs.build import spec_of
from vsr.contracts import Clip, Spec
from vsr.data.degrade.imresize import imresize
from vsr.data.video.cuts import scene_cuts
from vsr.engine.precision import full_float32
from vsr.engine.saving.weights import load_weights
from vsr.evaluation.restore import clips_of, restore, spec_for, steps_of
from vsr.metrics import calculate_psnr
from vsr.utils.allocator import keep_freed_memory
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.weight_files import read_weights
from vsr.video.film import Reader, frame_names, shots
from vsr.video.network import load_network
from vsr.video.scan import scan
from vsr.video.sources import find_sources

TILE_OVERLAPS = 0, 8, 16, 32, 48, 64
SEGMENT_OVERLAPS = 0, 1, 2, 3, 5, 8, 12


def restored(network: nn.Module, spec: Spec, clip: Clip, device: torch.device, options: dict) -> list[np.ndarray]:
    """Returns the restored frames of a clip; ``options`` are those of steps_of, chunk, and of restore."""
    chunk = {name: options.pop(name) for name in ("chunk", "warm_up", "look_ahead") if name in options}
    with full_float32():
        return [frame.sr for frame in restore(network, steps_of(spec, [clip], **chunk), device, **options)]


def longest_shot(given: str, scale: int) -> Clip:
    """Returns the longest shot of a film, which is the ground truth; its LQ frames are bicubic."""
    (source,) = find_sources([given])
    film = scan(source, Fraction(25), scene_cuts)
    every = range(len(film.times))
    clips = shots(film, source.path.name, every, frame_names(source), Reader(source).read)
    clip = max(clips, key=lambda shot: len(shot.frames))

    def gt(index: int) -> np.ndarray:
        frame = clip.lq(index)
        frame = frame[: frame.shape[0] // scale * scale, : frame.shape[1] // scale * scale]
        return (frame >> 8).astype(np.uint8) if frame.dtype == np.uint16 else frame

    return clip._replace(lq=lambda index: imresize(gt(index), 1 / scale), gt=gt)


def square(clip: Clip, side: int, scale: int) -> Clip:
    """Returns the clip of the squares in the middle of its frames."""

    def middle(read: Callable[[int], np.ndarray], unit: int) -> Callable[[int], np.ndarray]:
        def part(index: int) -> np.ndarray:
            frame = read(index)
            h, w = (length // unit for length in frame.shape[:2])
            if min(h, w) < side:
                raise UserError(f"--size {side} is more than the frames of '{clip.name}' have, {h} x {w}")
            top, left = (h - side) // 2 * unit, (w - side) // 2 * unit
            return np.ascontiguousarray(frame[top : top + side * unit, left : left + side * unit])

        return part

    lq, gt = clip.lq, clip.gt
    return clip._replace(lq=cache(middle(lq, 1)), gt=gt and middle(gt, scale))


def row(name: str, frames: Sequence[np.ndarray], whole: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> str:
    """Returns the table's row."""
    difference = np.abs(np.stack(frames).astype(int) - np.stack(whole))
    gains = [calculate_psnr(a, t, 0) - calculate_psnr(b, t, 0) for a, b, t in zip(frames, whole, truths, strict=True)]
    share = 100 * (difference > 2).mean()
    return f"| {name} | {difference.mean():.4f} | {difference.max()} | {share:.3f} % | {np.mean(gains):+.4f} |"


def main(words: list[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-opt", metavar="FILE", help="options file; not needed with --clip if the weights name theirs")
    parser.add_argument("--clip", metavar="PATH", help="film or folder of frames in place of the options' test set")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=4, help="frames of the first clip, from its middle")
    parser.add_argument("--size", type=int, default=160, help="side of the square of each frame that is restored")
    parser.add_argument("--segment", type=int, default=10)
    args = parser.parse_args(words)
    keep_freed_memory()
    device = torch.device(args.device)
    if args.clip:
        loaded = load_network(str(args.weights), args.opt, args.set, device)
        network, spec, clip = loaded.network, loaded.spec, longest_shot(args.clip, loaded.spec.scale)
    elif args.opt:
        options = config.load(args.opt, args.set, need="test")
        network = options.network_g()
        load_weights(network, read_weights(args.weights, prefer="params_ema"), args.weights)
        network.to(device).eval()
        entry = next(iter(options.test_sets.values()))
        spec, clip = spec_for(network, entry.data), clips_of(entry.data, entry.name)[0]
    else:
        raise UserError("no clip: give --clip PATH, or -opt FILE with a test set")
    middle = len(clip.targets) // 2
    targets = clip.targets[max(middle - args.frames // 2, 0) :][: args.frames]
    clip = square(clip._replace(targets=targets), args.size, spec.scale)
    truths = [clip.gt(index) for index in targets] if clip.gt else []
    whole = restored(network, spec, clip, device, {})
    truths = truths or whole
    head = "| mean | largest | over 2 levels | PSNR, dB |\n|---|---|---|---|---|"
    print(f"{len(targets)} frames of {args.size} x {args.size}\n\n| tile overlap {head}")
    for overlap in TILE_OVERLAPS:
        tiled = restored(network, spec, clip, device, {"tile": (args.size + overlap) // 2, "tile_overlap": overlap})
        print(row(str(overlap), tiled, whole, truths), flush=True)
    if spec_of(network).reads == "clip":
        print(f"\nsegments of {args.segment} frames\n\n| frames read before and after {head}")
        for overlap in SEGMENT_OVERLAPS:
            chunk = {"chunk": args.segment, "warm_up": overlap, "look_ahead": overlap}
            print(row(str(overlap), restored(network, spec, clip, device, chunk), whole, truths), flush=True)


if __name__ == "__main__":
    exit_cleanly(main)
