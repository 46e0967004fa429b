"""Makes the low-resolution frames of a data set from its ground truth.

    python scripts/generate_lq.py --from datasets/Vid4/GT --to datasets/Vid4/BIx4                # MATLAB's bicubic
    python scripts/generate_lq.py --from datasets/Vid4/GT --to datasets/Vid4/BDx4 --degradation BD
    python scripts/generate_lq.py --from datasets/REDS/train_sharp --to datasets/REDS/train_sharp_bicubic/X2 --scale 2

BI: imresize(frame, 1 / scale, 'bicubic') of MATLAB, antialiased. BD: Gaussian blur, sigma 1.6, 12 x 12, borders
replicated, then every 4th pixel from the 2nd: the degradation of UDM10, Vid4 and Vimeo-90K's BD tables, as in the
MATLAB code of BasicVSR's authors (DUF's differs: 13 x 13). Existing frames are kept;
degradation.txt next to them records their degradation.
"""

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from preparation.arguments import at_least_one, folder_to_make, open_any
from vsr.data.degrade.imresize import imresize
from vsr.data.lists.meta_info import read_meta_info, read_text
from vsr.data.sets.roots import cropping, left_out, warn_of_left_out
from vsr.data.sources.base import DEGRADATION_FILE, FrameStore
from vsr.data.sources.folder import FolderStore
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.files import remove_unfinished, write_atomically, write_text_atomically
from vsr.utils.locks import sole_preparation

BD_SIGMA = 1.6
BD_SIZE = 12  # ceil(3 sigma) * 2 + 2


def main(arguments: list[str] | None = None) -> None:
    """Makes what is missing."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="source", type=Path, required=True, help="folder of GT clips, or LMDB")
    parser.add_argument("--to", type=folder_to_make, required=True, help="folder to make")
    parser.add_argument("--scale", type=int, choices=[2, 3, 4], default=4)
    parser.add_argument("--degradation", choices=["BI", "BD"], default="BI")
    parser.add_argument("--meta", type=Path, help="only the clips of this meta file, all their frames")
    parser.add_argument("--threads", type=at_least_one, default=os.cpu_count() or 1, help="frames made at a time")
    parser.add_argument("--on-bad-frame", choices=["error", "skip"], default="error")
    parser.add_argument("--dry-run", action="store_true", help="prints the plan and stops")
    options = parser.parse_args(arguments)
    if options.degradation == "BD" and options.scale != 4:
        parser.error("BD is defined for --scale 4 only")
    if options.to.resolve().is_relative_to(options.source.resolve()):
        parser.error(f"--to '{options.to}' lies in --from '{options.source}': its frames would be taken for GT")
    torch.set_num_threads(1)  # the frames are spread over threads already
    try:
        with sole_preparation(options.to, not options.dry_run):
            run(options)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from None


def run(options: argparse.Namespace) -> None:
    """Degrades every frame that has no result yet."""
    store = open_any(options.source)
    clips = list(dict.fromkeys(clip.name for clip in read_meta_info(options.meta))) if options.meta else store.clips()
    keys = [f"{clip}/{frame}" for clip in clips for frame in store.frames(clip)]
    absent = [clip for clip in clips if not store.frames(clip)]
    if absent and options.meta:
        raise ValueError(
            f"'{options.source}' has no frames of {len(absent)} of the {len(clips)} clips that '{options.meta}' lists: "
            f"{', '.join(absent[:3])}{' …' if absent[3:] else ''}; is it the list of this set?"
        )
    warn_of_left_out(left_out(store))
    if not keys:
        raise ValueError(f"'{options.source}' holds no frames, and no folders of frames")
    if not options.dry_run:
        remove_unfinished(options.to)
    there = {key for key in keys if (options.to / f"{key}.png").is_file()}
    missing = [key for key in keys if key not in there]
    made_with = f"{options.degradation} x{options.scale}"
    check_made_before(store, options.to, min(there, default=None), made_with, options.scale)
    print(f"{options.to}: {len(keys)} frames in {len(clips)} clips, {len(there)} are there, "
          f"{len(missing)} to make with {made_with}")  # fmt: skip
    if options.dry_run:
        return
    if not there:
        write_text_atomically(options.to / DEGRADATION_FILE, f"{made_with}\n")
    for text in cropping({clip: store.size(f"{clip}/{store.frames(clip)[0]}") for clip in clips}, options.scale):
        print(text)
    degrade = degradation(options.degradation, options.scale)
    bad = []
    with ThreadPoolExecutor(options.threads) as pool, tqdm(total=len(missing), unit="frame") as bar:
        for start in range(0, len(missing), 64):  # bounded, so that an error or Ctrl-C stops soon
            batch = missing[start : start + 64]
            for problem in pool.map(lambda key: make_one(store, key, options.to, degrade), batch):
                if problem is not None and options.on_bad_frame == "error":
                    raise ValueError(problem)
                bad += [problem] if problem else []
                bar.update()
    for problem in bad:
        print(f"left out: {problem}")
    print(f"made {len(missing) - len(bad)} frames, left out {len(bad)}")


def check_made_before(store: FrameStore, target: Path, key: str | None, made_with: str, scale: int) -> None:
    """Raises ``ValueError`` if the target holds frames of another degradation or scale, which would be left alone.

    Args:
        store: the GT frames.
        target: folder of the LQ frames.
        key: a frame that is there, whose size tells its scale where no stamp does.
        made_with: what is asked for, "BI x4".
        scale: likewise.
    """
    stamp = target / DEGRADATION_FILE
    before = read_text(stamp).strip() if stamp.is_file() else made_with
    if before != made_with:
        raise ValueError(
            f"'{target}' holds frames made with {before}, not {made_with}; remove it, or give another --to"
        )
    if key is None:
        return
    (h, w), (lq_h, lq_w) = store.size(key), FolderStore(target).size(key)
    if (h // scale, w // scale) != (lq_h, lq_w):
        raise ValueError(
            f"'{target / key}.png' is there already, {lq_h} x {lq_w}, but {made_with} makes "
            f"{h // scale} x {w // scale} of {h} x {w}; remove '{target}', or give another --to"
        )


def make_one(store: FrameStore, key: str, target: Path, degrade: Callable[[np.ndarray], np.ndarray]) -> str | None:
    """Writes the LQ frame of one GT frame. Returns why it could not be made, or None."""
    try:
        low = degrade(store.read(key))
    except (ValueError, FileNotFoundError) as error:
        return f"'{key}': {error}"
    encoded = cv2.imencode(".png", cv2.cvtColor(low, cv2.COLOR_RGB2BGR))[1]
    write_atomically(target / f"{key}.png", lambda stream: stream.write(encoded.tobytes()))
    return None


def degradation(name: str, scale: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function from a GT frame, cropped to multiples of the scale, to an LQ frame, both (h, w, 3) uint8."""

    def cropped(frame: np.ndarray) -> np.ndarray:
        h, w = (side // scale * scale for side in frame.shape[:2])
        return bd(frame[:h, :w]) if name == "BD" else imresize(frame[:h, :w], 1 / scale)

    return cropped


def bd(frame: np.ndarray) -> np.ndarray:
    """Returns a frame blurred by a Gaussian and sampled at every 4th pixel from the 2nd.

    The 12 taps lie at -5.5 to 5.5 around a point between two pixels; as in MATLAB's imfilter, the output pixel is the
    left and upper one of the four around that point.
    """
    taps = np.exp(-((np.arange(BD_SIZE) - (BD_SIZE - 1) / 2) ** 2) / (2 * BD_SIGMA**2))
    taps /= taps.sum()
    anchor = (BD_SIZE - 1) // 2  # imfilter's origin of an even kernel: floor((size + 1) / 2), counted from 1
    blurred = cv2.sepFilter2D(
        frame.astype(np.float64), -1, taps, taps, anchor=(anchor, anchor), borderType=cv2.BORDER_REPLICATE
    )
    return np.floor(np.clip(blurred[1::4, 1::4], 0, 255) + 0.5).astype(np.uint8)


if __name__ == "__main__":
    exit_cleanly(main)
