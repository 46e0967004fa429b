"""Upscales videos: ``python -m vsr.upscale IN -o OUT``."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, get_args

import torch

from vsr.engine.precision import Precision, restoration_type
from vsr.evaluation.restoring.calls import OVERLAP, TILE_OVERLAP
from vsr.utils.allocator import keep_freed_memory
from vsr.utils.errors import UserError, exit_cleanly, tell
from vsr.utils.log import logger, start_log
from vsr.video.network import load_network
from vsr.video.pipe import upscale_pipe
from vsr.video.run import upscale
from vsr.video.sources import find_sources
from vsr.video.target import SEGMENT, Settings

DESCRIPTION = "Upscales videos, or folders of frames. Run again after a crash, the same command resumes."


def main(arguments: Sequence[str] | None = None) -> int:
    """Upscales each input and returns the exit code."""
    args = parser().parse_args(arguments)
    if args.out != "-":
        return _run(args, None)
    with redirect_stdout(sys.stderr):  # the log
        return _run(args, os.fdopen(os.dup(1), "wb"))


def _run(args: argparse.Namespace, stdout: BinaryIO | None) -> int:
    given = [*args.inputs, *args.input]
    if not given:
        raise UserError("no input: vsr upscale IN [-o OUT]; IN is a video, a folder of frames, a pattern, or -")
    start_log()
    sources = find_sources(given)
    out = None if args.out is None else Path(args.out).expanduser()
    if len(sources) > 1 and out is not None and out.suffix and not out.is_dir():
        raise UserError(f"-o {out}: there are {len(sources)} inputs; give a folder")
    settings = settings_of(args)
    logger.info("precision: %s", restoration_type(settings.precision, settings.device)[1])
    keep_freed_memory()
    loaded = load_network(args.weights, args.opt, args.set, settings.device)
    failed: list[str] = []
    for source in sources:
        if source.is_pipe or stdout is not None:
            if out is None or (stdout is not None and len(sources) > 1) or source.frames:
                raise UserError("through a pipe goes one film: vsr upscale - -o OUT.mkv, or vsr upscale IN.mp4 -o -")
            upscale_pipe(source, out, loaded, settings, stdout)
            continue
        own = out / source.path.name if out is not None and source.frames and len(sources) > 1 else out
        try:
            upscale(source, own, loaded, settings)
        except UserError as error:
            if len(sources) == 1:
                raise
            tell(error)
            failed.append(str(source.path))
    if failed:
        raise UserError(f"{len(failed)} of {len(sources)} inputs failed, the others are done: {', '.join(failed)}")
    return 0


def settings_of(args: argparse.Namespace) -> Settings:
    """Returns the settings of the command line."""
    given = {name: value for name, value in vars(args).items() if name in Settings._fields}
    return Settings(**{**given, "device": _device(args.device)})


def _device(name: str) -> torch.device:
    """Returns a device by its name; ``auto`` is a GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device '{name}' is unknown; expected auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name}: PyTorch finds no GPU here")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: there are {torch.cuda.device_count()} GPUs, counted from 0")
    return device


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    result = argparse.ArgumentParser(allow_abbrev=False, prog="vsr upscale", description=DESCRIPTION)
    add = result.add_argument
    add("inputs", nargs="*", metavar="IN", help="video, folder of frames, glob, pattern such as f/%%08d.png, or -")
    add("-i", "--input", action="append", default=[], metavar="IN", help="the same")
    add(
        "-o",
        "--out",
        metavar="OUT",
        help="video file, or folder; default: IN_x4 beside the input; - is a pipe",
    )
    add("--weights", metavar="FILE", help="weights; a .safetensors of vsr train describes its network")
    add("-opt", "--opt", metavar="FILE", help="options file of the weights' training")
    add("--set", action="append", default=[], metavar="A.B=VALUE", help="overrides an option of that file")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    add("--precision", choices=get_args(Precision), default="auto", help="auto: 16 bits where the device has units")
    add("--tile", type=positive, metavar="N", help="restores tiles of N x N pixels of the input; default: whole frames")
    add("--tile-overlap", type=not_negative, default=TILE_OVERLAP, metavar="N", help="pixels that tiles share")
    add(
        "--segment",
        type=positive,
        default=SEGMENT,
        metavar="N",
        help="frames that a recurrent network restores at a time",
    )
    add("--overlap", type=not_negative, default=OVERLAP, metavar="N", help="frames that it reads before and after them")
    add("--scene-cut", choices=("auto", "off"), default="auto", help="auto: the network's window stays inside a shot")
    sizes = result.add_mutually_exclusive_group()
    sizes.add_argument("--scale", type=above_zero, metavar="S", help="output size / input size; default: the network's")
    sizes.add_argument("--height", type=positive, metavar="H", help="height of the output")
    add("--codec", default="libx264", help="FFmpeg's name of the encoder")
    add("--crf", type=float, default=18, help="quality, for encoders that have it; smaller is better")
    add("--pix-fmt", metavar="FORMAT", help="default: yuv420p, or yuv420p10 of inputs with more than 8 bits")
    add("--hdr", choices=("keep", "refuse"), default="keep", help="HDR films: keep their tags, or refuse them")
    add("--start", type=not_negative, default=0, metavar="N", help="first frame, counted from 0")
    add("--frames", type=positive, metavar="N", help="number of frames; default: to the end")
    add("--fps", type=above_zero_fraction, default=Fraction(25), help="frames per second, for folders of frames")
    add("--overwrite", action="store_true", help="replaces an existing output")
    add("--no-audio", dest="audio", action="store_false", help="leaves the sound out")
    add("--png", action="store_true", help="writes a folder of PNG files")
    add("--preview", type=not_negative, metavar="N", help="writes frame N as LQ, bicubic and network, and stops")
    add("--side-by-side", action="store_true", help="bicubic in the left half of the picture, network in the right")
    add("--dry-run", action="store_true", help="says what would be done, and stops")
    return result


def positive(text: str) -> int:
    """Returns a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return int(text)


def not_negative(text: str) -> int:
    """Returns a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got '{text}'")
    return int(text)


def above_zero(text: str) -> float:
    """Returns a number above 0."""
    return float(above_zero_fraction(text))


def above_zero_fraction(text: str) -> Fraction:
    """Returns a number above 0, also written as 30000/1001."""
    try:
        number = Fraction(text)
    except (ValueError, ZeroDivisionError):
        number = Fraction(0)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got '{text}'")
    return number


if __name__ == "__main__":
    exit_cleanly(main)
