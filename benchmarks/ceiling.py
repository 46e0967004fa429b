"""Measures how fast PyTorch convolves here, and how long EDVR-M's multiplications alone would take at that rate.

    python benchmarks/ceiling.py                # seconds
    python benchmarks/ceiling.py --save NAME    # keeps benchmarks/results/ceiling_NAME.json

The rate is that of PyTorch's 3 × 3 convolution of 64 channels at 180 × 320, the network's commonest. A step takes three
times the multiplications of its forward pass. A frame is restored with its neighbours' features at hand, as
``vsr upscale`` does. Only fewer multiplications, as in ``vsr.ops.conv3x3``, can be faster than that.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from vsr.archs import EDVR
from vsr.costs import num_macs

RESULTS = Path(__file__).parent / "results"
EDVR_M = {"num_feat": 64, "num_extract_block": 5, "num_reconstruct_block": 10}
DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}


class OneFrame(nn.Module):
    """Restores a frame whose neighbours' features are there: those of one frame are computed, and stand for all."""

    def __init__(self) -> None:
        super().__init__()
        self.network = EDVR(**EDVR_M)

    def forward(self, frame: Tensor) -> Tensor:
        """Returns the restored frame; ``frame`` is (1, 3, h, w)."""
        features = [own.unsqueeze(1).expand(-1, 5, *own.shape[1:]) for own in self.network.frame_features(frame)]
        return self.network.from_features(features, frame)


def rate(dtype: torch.dtype, size: tuple[int, int], rounds: int) -> float:
    """Returns multiply–accumulates per second of processor time, in units of 10⁹: the best of some rounds."""
    image = torch.randn(1, 64, *size, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
    best = float("inf")
    with torch.no_grad():
        for _ in tqdm(range(rounds), unit="pass", leave=False):
            before = time.process_time()
            torch.conv2d(image, weight, padding=1)
            best = min(best, time.process_time() - before)
    return weight.numel() * size[0] * size[1] / best / 1e9


def main(words: list[str] | None = None) -> None:
    """Measures, prints a table, and keeps it with ``--save``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--size", type=int, nargs=2, default=(180, 320), metavar=("H", "W"), help="of the frame")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", metavar="NAME")
    parser.add_argument("--note", default="", help="kept with the results: who else used the machine")
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    step = 3 * num_macs(lambda: EDVR(**EDVR_M), (1, 5, 3, 64, 64)) / 1e9
    frame = num_macs(OneFrame, (1, 3, *options.size)) / 1e9
    rows = {}
    print("| precision | GMACs per second of a core | step of 1x5x3x64x64, ms | frame, s |\n|---|---|---|---|")
    for name, dtype in DTYPES.items():
        reached = rate(dtype, tuple(options.size), options.rounds)
        rows[name] = {"gmacs_per_second": reached, "step_ms": 1e3 * step / reached, "frame_seconds": frame / reached}
        print(f"| {name} | {reached:.0f} | {1e3 * step / reached:.0f} | {frame / reached:.2f} |")
    if options.save:
        from machine import machine

        about = {**machine("cpu"), "threads": options.threads, "size": list(options.size), "note": options.note}
        kept = {"machine": about, "step_gmacs": step, "frame_gmacs": frame, "rows": rows}
        file = RESULTS / f"ceiling_{options.save}.json"
        file.write_text(json.dumps(kept, indent=1) + "\n")
        print(f"written: {file}")


if __name__ == "__main__":
    main()
