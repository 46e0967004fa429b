"""Counts a network's parameters and multiply–accumulates. ``python -m vsr.costs -opt options/1e-4.yml``."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from vsr import config
from vsr.archs.build import spec_of, without_values
from vsr.config.command_line import options_parser
from vsr.memory import PixSentence, PixSim, PixWise
from vsr.utils.errors import exit_cleanly

FRAME_SIZE = 720, 1280  # of REDS's ground truth


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the costs of an options file's network and returns the exit code."""
    args = options_parser("vsr costs", "Counts a network's costs.").parse_args(arguments)
    options = config.load(args.opt, args.set, need="test", missing_data="note")
    network = without_values(options.network_g, torch.device("meta"))
    spec, settings = spec_of(network), [entry.settings for entry in options.datasets.values()]
    if spec.task == "next-frame":
        memory = options.network_g.keywords.get("memory")  # a network of one's own may have none
        kept = memory.keywords.get("memory_size") if memory else None
        sizes = [kept, *(entry.get("input_size") for entry in settings)]
        t, (h, w) = min((size for size in sizes if size), default=1), spec.frame_size or FRAME_SIZE
        shapes, of = [(1, 3, h, w), (1, t, 3, h, w)], f"a frame of {h}×{w} and {t} past ones"
    else:
        windows = [spec.num_frames, *(entry.get("num_frame") for entry in settings), 1]
        t, (h, w) = next(size for size in windows if size), (size // spec.scale for size in FRAME_SIZE)
        shapes, of = [(1, t, 3, h, w)], f"a {spec.reads} of {t} frames of {h}×{w}"
    macs = num_macs(options.network_g, *shapes)
    sys.stdout.write(f"{num_parameters(network):,} parameters; {macs / 1e9:,.2f} GMACs for {of}\n")
    return 0


def num_parameters(network: nn.Module) -> int:
    """Returns the number of trainable and frozen values."""
    return sum(parameter.numel() for parameter in network.parameters())


def num_macs(build: Callable[[], nn.Module], *shapes: tuple[int, ...]) -> int:
    """Returns the multiply–accumulates of one forward pass: convolutions, matrix products, memory reads.

    Interpolation, normalisation and activations are not counted. Nothing is computed: shapes alone decide. ``build``
    makes the network; the inputs are (b, t, 3, h, w), or of a FramePredictor (b, 3, h, w) and (b, t, 3, h, w).
    """
    reads = 0

    def add_read(window: int, addressing: nn.Module, arguments: tuple[Any, ...], maps: tuple[Tensor, Tensor]) -> None:
        nonlocal reads
        _, sentences, embedding = arguments
        # A score and a share of the sum per candidate; sentences are summed or, if 3×3, their embeddings.
        channels = sentences.shape[2] if embedding.kernel_size == (1, 1) else embedding.out_channels
        reads += window**2 * (maps[1].numel() + sentences[:, :, 0].numel() * channels)

    shapes_only = FakeTensorMode(allow_non_fake_inputs=True)  # a network with values is one
    network = without_values(build, shapes_only).eval()
    with shapes_only, torch.no_grad():
        for module in network.modules():
            if isinstance(module, PixSim | PixWise) or (isinstance(module, PixSentence) and module.is_fc):
                window = 1 if isinstance(module, PixSentence) else module.window
                module.hops.addressing.register_forward_hook(partial(add_read, window))
        attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        counted = {
            torch.ops.vsr.conv3x3: lambda _, weight, *__, out_shape: _conv_flops(weight, out_shape),
            torch.ops.vsr.deform_conv2d: lambda _, __, weight, *___, out_shape: _conv_flops(weight, out_shape),
            attention: lambda *x, **_: sdpa_flop_count(*x[:3]),
        }
        with FlopCounterMode(display=False, custom_mapping=counted) as counter:
            network(*(torch.empty(shape) for shape in shapes))
    return counter.get_total_flops() // 2 + reads


def _conv_flops(weight: torch.Size, output: torch.Size) -> int:
    return 2 * output[0] * output[2:].numel() * weight.numel()


if __name__ == "__main__":
    exit_cleanly(main)
