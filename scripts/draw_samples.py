"""Draws training samples as the losses get them: ground truth, LQ, and what a degradation makes of them.

    python scripts/draw_samples.py -opt options/basicvsr/demo_real_stage1.yml --to samples.jpg

Each sample is a row: the ground truth of its middle frame, the same sharpened where the degradation sharpens it, and
the first and the last LQ frame, enlarged to squares.
"""

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from vsr import config
from vsr.config.command_line import options_parser
from vsr.data.degrade.apply import degraded
from vsr.data.stream.loader import batches, to_device
from vsr.data.stream.sampler import TrainSampler
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.files import write_atomically

GAP = 4  # pixels between pictures


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the picture."""
    parser = options_parser("scripts/draw_samples.py", __doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--to", type=Path, default=Path("samples.jpg"), metavar="FILE", help="(samples.jpg)")
    parser.add_argument("--samples", type=int, default=12, help="how many (default: %(default)s)")
    parser.add_argument("--columns", type=int, default=2, help="samples beside each other (default: %(default)s)")
    args = parser.parse_args(arguments)
    if min(args.samples, args.columns) < 1:
        raise UserError("--samples and --columns have to be at least 1")
    if args.to.suffix not in (".jpg", ".png"):
        raise UserError(f"--to {args.to}: expected a name that ends in .jpg or .png")
    options = config.load(args.opt, args.set, need="train")
    train, seed = options.datasets["train"], options.manual_seed
    stream = batches(
        train.data, TrainSampler(len(train.data), seed=seed), degradation=train.loader.degradation_on("loader")
    )
    rows = []
    for batch in islice(stream, args.samples):
        batch = to_device(batch, torch.device("cpu"))
        on_device = train.loader.degradation_on("device")
        if on_device is not None:
            batch = degraded(batch, batch["keys"], on_device)
        if "lq" not in batch:
            raise UserError(f"{args.opt}: its samples have no lq to draw")
        rows.append(row_of({name: value[0] for name, value in batch.items() if isinstance(value, Tensor)}))
    encoded = cv2.imencode(args.to.suffix, sheet(rows, args.columns)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[
        1
    ].tobytes()
    write_atomically(args.to, lambda file: file.write(encoded), flush=False)


def row_of(sample: dict[str, Tensor]) -> np.ndarray:
    """Returns the pictures of a sample beside each other, (H, n, 3) uint8 RGB."""
    gt, lq = sample["gt"], sample["lq"]
    truths = [*(clip for name, clip in sample.items() if name.startswith("gt_")), gt]  # the original one, if it changed
    h, w = gt.shape[-2:]
    pictures = [pixels(clip[len(clip) // 2]) for clip in truths]
    for frame in (lq[0], lq[-1]):
        pictures.append(cv2.resize(pixels(frame), (w, h), interpolation=cv2.INTER_NEAREST))
    return np.hstack([cv2.copyMakeBorder(p, 0, 0, 0, GAP, cv2.BORDER_CONSTANT, value=(255,) * 3) for p in pictures])


def sheet(rows: list[np.ndarray], columns: int) -> np.ndarray:
    """Returns pictures of one size in lines of so many, with gaps."""
    h, w, _ = rows[0].shape
    lines = -(-len(rows) // columns)
    canvas = np.full((lines * (h + GAP), columns * (w + 2 * GAP), 3), 255, np.uint8)
    for number, row in enumerate(rows):
        top, left = number // columns * (h + GAP), number % columns * (w + 2 * GAP)
        canvas[top : top + h, left : left + w] = row
    return canvas


def pixels(frame: Tensor) -> np.ndarray:
    """Returns a frame (3, h, w) in [0, 1] as (h, w, 3) uint8."""
    return frame.permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()


if __name__ == "__main__":
    exit_cleanly(main)
