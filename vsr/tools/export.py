"""Writes a network for other runtimes, as ONNX or as a torch.export program.

    vsr export --to small.onnx                                             # the network that ships
    vsr export --weights BasicVSR_REDS4.pth --to basicvsr.onnx --frames 7  # BasicSR's and mmagic's files are recognised
    vsr export -opt options/demo.yml --to demo.pt2                         # the weights of a training
    vsr export -opt options/demo.yml --to demo.onnx --deform decomposed    # for runtimes without DeformConv, GridSample

The network reads a window, (1, num_frame, 3, h, w), or a clip of --frames frames, RGB in [0, 1]. Height and width may
differ from --size, in multiples of what the network needs, unless --fixed is given. Then the file is run, with ONNX
Runtime on the CPU, and compared with the network at two sizes.
"""

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vsr import config
from vsr.archs.build import input_shapes, spec_of
from vsr.archs.recurrent.spynet import UNIT, SpyNet
from vsr.config.command_line import options_parser
from vsr.contracts import Spec
from vsr.engine.saving.weights import load_weights
from vsr.ops.export import DEFORM_CONV_OPSET, decomposed
from vsr.test import find_weights
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.weight_files import read_entry
from vsr.video.network import load_network

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
LARGEST_OPSET = 23
TOLERANCE = 1e-4  # of pixels in [0, 1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports the network of an options file, checks the file, and returns the exit code."""
    parser = options_parser("vsr export", __doc__ or "", required=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--to", required=True, type=Path, metavar="FILE", help="file to write, .onnx or .pt2")
    parser.add_argument("--weights", metavar="FILE", help="weights; with -opt by default those of its training")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="height and width of the LQ frames")
    parser.add_argument("--fixed", action="store_true", help="the file takes frames of --size only")
    parser.add_argument("--frames", type=int, metavar="T", help="frames of a clip, for a network of clips (5)")
    parser.add_argument("--opset", type=int, default=20, help="of ONNX (20)")
    text = "how ONNX holds deformable convolutions and warps: as operators of ONNX, or as gathers (operator)"
    parser.add_argument("--deform", choices=["operator", "decomposed"], default="operator", help=text)
    parser.add_argument("--overwrite", action="store_true", help="replaces an existing file")
    args = parser.parse_args(arguments)
    if args.to.suffix not in (".onnx", ".pt2"):
        raise UserError(f"--to {args.to}: the file has to end in .onnx or .pt2")
    if args.to.exists() and not args.overwrite:
        raise UserError(f"--to {args.to} exists: --overwrite replaces it")
    if args.to.suffix == ".onnx":
        check_onnx(args.opset, args.deform)
    network, weights = network_of(args.opt, args.set, args.weights)
    sys.stdout.write(f"exporting {type(network).__name__}, {weights}\n")
    sys.stdout.flush()
    spec = spec_of(network) if args.fixed else spec_of_program(network)
    shapes = shapes_of(spec, args.size, args.frames)
    program = exported(network, shapes, None if args.fixed else spec)
    args.to.parent.mkdir(parents=True, exist_ok=True)
    if args.to.suffix == ".onnx":
        write_onnx(program, args.to, args.opset, args.deform, spec.scale)
    else:
        torch.export.save(program, args.to)
    size = args.to.stat().st_size
    report = [f"{args.to}: {size / 1e6:.1f} MB" if size >= 1e6 else f"{args.to}: {size / 1e3:.0f} kB"]
    for check in [shapes] if args.fixed else [shapes, larger(shapes, spec)]:
        difference = compare(network, args.to, check)
        report.append(f"{' and '.join(map(str, check))}: largest difference {difference:.1e}")
        if not difference < TOLERANCE:
            raise UserError(f"{report[-1]} to the network, expected less than {TOLERANCE}: do not use {args.to}")
    sys.stdout.write("\n".join(report) + "\n")
    return 0


def check_onnx(opset: int, deform: str) -> None:
    """Raises UserError if a package is missing or the opset cannot hold the network."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise UserError(f"ONNX needs the packages {', '.join(missing)}: pip install '.[export]' (or --to FILE.pt2)")
    lowest = DEFORM_CONV_OPSET if deform == "operator" else 18
    if not lowest <= opset <= LARGEST_OPSET:
        raise UserError(f"--opset {opset}: expected {lowest} to {LARGEST_OPSET} with --deform {deform}")


def network_of(options_file: str | None, overrides: Sequence[str], weights: str | None) -> tuple[nn.Module, str]:
    """Returns the network of an options file, or that of a weight file, by default the one that ships.

    The second value names its weights.
    """
    if options_file is None:
        if overrides:
            raise UserError("--set changes an options file: name it with -opt FILE")
        loaded = load_network(weights, None, overrides, torch.device("cpu"))
        return loaded.network, str(loaded.weights)
    options = config.load(options_file, overrides, need="test", missing_data="note")
    network = options.network_g().eval()
    file, key = find_weights(options, weights)
    entry, parameters = read_entry(file, key, prefer="params_ema")
    load_weights(network, parameters, file)
    return network, f"{file}{' (their average, EMA)' if entry == 'params_ema' else ''}"


def spec_of_program(network: nn.Module) -> Spec:
    """Returns a network's Spec with the ``min_size`` of a program that takes all sizes.

    Such a program has no dimension of one element: those are a case of their own. The coarsest flow of SpyNet has one
    element for every 32 pixels.
    """
    spec = spec_of(network)
    least = UNIT + 1 if any(isinstance(module, SpyNet) for module in network.modules()) else 2 * spec.multiple
    return spec._replace(min_size=max(spec.min_size, least))


def shapes_of(spec: Spec, size: Sequence[int] | None, frames: int | None) -> list[tuple[int, ...]]:
    """Returns the shapes of the inputs that are traced; raises UserError for a size that the network cannot take."""
    if frames is not None and (spec.reads != "clip" or frames < 1):
        raise UserError(f"--frames {frames}: expected at least 1, of a network of clips; this one reads {spec.reads}s")
    shapes = input_shapes(spec)
    if frames is not None or spec.num_frames is None:
        shapes = [shape if len(shape) == 4 else (1, frames or 5, *shape[2:]) for shape in shapes]
    if size is None:
        return shapes
    if any(side % spec.multiple or side < spec.min_size for side in size):
        text = f"multiples of {spec.multiple}, at least {max(spec.min_size, spec.multiple)}"
        raise UserError(f"--size {size[0]} {size[1]}: the network takes {text}")
    return [(*shape[:-2], *size) for shape in shapes]


def larger(shapes: list[tuple[int, ...]], spec: Spec) -> list[tuple[int, ...]]:
    """Returns other shapes that the exported network has to take."""
    return [(*shape[:-2], shape[-2] + 2 * spec.multiple, shape[-1] + 3 * spec.multiple) for shape in shapes]


def exported(network: nn.Module, shapes: list[tuple[int, ...]], spec: Spec | None) -> torch.export.ExportedProgram:
    """Returns a network as a program; with a spec, of any height and width.

    Raises:
        UserError: the network cannot be exported with these sizes.
    """
    sizes = None
    if spec is not None:
        least = -(-spec.min_size // spec.multiple)
        units = [torch.export.Dim(name, min=least, max=4096) for name in ("rows", "columns")]
        height, width = units if spec.multiple == 1 else [spec.multiple * unit for unit in units]
        sizes = (tuple({len(shape) - 2: height, len(shape) - 1: width} for shape in shapes),)
    try:
        with torch.no_grad():
            return torch.export.export(Frames(network), inputs(shapes), dynamic_shapes=sizes)
    except Exception as error:
        if spec is None:
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the network cannot be exported for all sizes ({reason[:200]}): add --fixed --size H W"
        ) from None


class Frames(nn.Module):
    """A network that returns frames only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *frames: Tensor) -> Tensor:
        """Returns the restored or predicted frames."""
        output = self.network(*frames)
        return output[0] if isinstance(output, tuple) else output


def write_onnx(program: torch.export.ExportedProgram, file: Path, opset: int, deform: str, scale: int) -> None:
    """Writes a program as ONNX; the axes of a size that may differ are called ``height`` and ``width``."""
    from vsr.ops.onnx_nodes import translations  # only here: it needs onnxscript

    program = decomposed(program)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            program,
            custom_translation_table=translations(deform == "decomposed"),
            opset_version=opset,
            input_names=["lq"] if len(program.graph_signature.user_inputs) == 1 else ["query", "sentences"],
            output_names=["sr"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert made is not None
    for values, factor in ((made.model.graph.inputs, ""), (made.model.graph.outputs, f"{scale}*" if scale > 1 else "")):
        for shape in (value.shape for value in values if value.shape is not None):
            for axis, name in ((len(shape) - 2, "height"), (len(shape) - 1, "width")):
                if not isinstance(shape[axis], int):
                    shape[axis] = f"{factor}{name}"
    made.save(file)


def compare(network: nn.Module, file: Path, shapes: list[tuple[int, ...]]) -> float:
    """Returns the largest difference between the network's output and that of the file, on random frames."""
    frames = inputs(shapes)
    with torch.no_grad():
        expected = Frames(network)(*frames)
        if file.suffix == ".pt2":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch reads the weights into memory that it calls not writable
                program = torch.export.load(file)
            return float((program.module()(*frames) - expected).abs().max())
    import onnxruntime  # only here: an optional package
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoSuchOperator

    try:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    except NoSuchOperator as error:
        reason = f"ONNX Runtime {onnxruntime.__version__} cannot run it ({error})"
        raise UserError(f"{file} is unchecked: {reason}; a newer one may, or use --deform decomposed") from None
    named = {entry.name: part.numpy() for entry, part in zip(session.get_inputs(), frames, strict=True)}
    output: Any = session.run(None, named)[0]
    return float(np.abs(output - expected.numpy()).max())


def inputs(shapes: list[tuple[int, ...]]) -> tuple[Tensor, ...]:
    """Returns frames of noise, the same in every call."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(shape, generator=generator) for shape in shapes)


if __name__ == "__main__":
    exit_cleanly(main)
