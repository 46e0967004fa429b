"""Small seeded clips with real motion, in REDS's layout, for tests that need frames."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from preparation.meta_info import write_meta_info
from vsr.data.degrade.imresize import imresize
from vsr.data.lists.meta_info import ClipInfo


class SyntheticSet(NamedTuple):
    gt: Path  # ROOT/train_sharp, clips 000, 001, …, frames 00000000.png, …
    lq: Path  # ROOT/train_sharp_bicubic/X{scale}
    meta: Path  # ROOT/meta_info.txt
    clips: list[str]


def make_clips(
    root: Path,
    num_clips: int = 2,
    num_frames: int = 8,
    gt_size: tuple[int, int] = (64, 96),
    scale: int = 4,
    seed: int = 0,
) -> SyntheticSet:
    """Writes clips of a texture that pans by a sub-pixel step per frame, and their bicubic LQ frames."""
    made = SyntheticSet(
        root / "train_sharp",
        root / "train_sharp_bicubic" / f"X{scale}",
        root / "meta_info.txt",
        [f"{index:03d}" for index in range(num_clips)],
    )
    for index, clip in enumerate(made.clips):
        for folder in (made.gt / clip, made.lq / clip):
            folder.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(moving_texture(num_frames, gt_size, [seed, index])):
            cv2.imwrite(str(made.gt / clip / f"{number:08d}.png"), frame)
            cv2.imwrite(str(made.lq / clip / f"{number:08d}.png"), imresize(frame, 1 / scale))
    write_meta_info(made.meta, [ClipInfo(clip, num_frames, (*gt_size, 3)) for clip in made.clips])
    return made


def moving_texture(num_frames: int, size: tuple[int, int], seed: int | list[int]) -> list[np.ndarray]:
    """Returns frames (h, w, 3) uint8 of one picture of noise at several scales, panned with constant velocity."""
    rng = np.random.default_rng(seed)
    h, w = size
    margin = 2 * num_frames + 8
    canvas = np.zeros((h + 2 * margin, w + 2 * margin, 3))
    for cell in (2, 5, 13, 34):
        noise = rng.normal(0, 26, (canvas.shape[0] // cell + 2, canvas.shape[1] // cell + 2, 3))
        canvas += cv2.resize(noise, canvas.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    canvas = np.clip(canvas + 128, 0, 255).astype(np.float32)
    dx, dy = rng.uniform(-1.5, 1.5, 2)
    frames = []
    for number in range(num_frames):
        shift = np.array([[1, 0, margin + dx * number], [0, 1, margin + dy * number]])
        frame = cv2.warpAffine(canvas, shift, (w, h), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        frames.append(np.rint(frame).astype(np.uint8))
    return frames
