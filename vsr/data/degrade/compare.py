"""Whether the LQ frames of a training set are those of its GT frames by a known degradation."""

import numpy as np

from vsr.data.degrade.imresize import imresize
from vsr.data.sets.crops import ClipCrops
from vsr.data.sources.folder import FolderStore
from vsr.data.sources.lmdb import LmdbStore

SAME = 50  # dB, from which on two frames differ by rounding alone


def bicubic_psnr(dataset: object) -> tuple[str, float] | None:
    """Returns the name of the middle frame of a training set, and its PSNR to MATLAB's bicubic of the GT frame in dB.

    None where there are no LQ files, or where the frame cannot be read.
    """
    if not isinstance(dataset, ClipCrops) or not isinstance(dataset.lq, FolderStore | LmdbStore):
        return None
    name, frames, (h, w) = dataset.clips[len(dataset.clips) // 2]
    key, scale = f"{name}/{frames[len(frames) // 2]}", dataset.options.scale
    try:
        lq, gt = dataset.lq.read(key), dataset.gt.read(key)[: h // scale * scale, : w // scale * scale]
    except (ValueError, FileNotFoundError):  # named when its turn comes
        return None
    error = np.square(imresize(gt, 1 / scale).astype(np.float64) - lq).mean()
    return key, float(10 * np.log10(255**2 / error)) if error else float("inf")
