"""What the data sets of GT and LQ frames share: opening a root, checking that frames belong together, reading crops."""

import logging
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vsr.data.sources.stores import FrameStore, IOBackend, open_store, root_path
from vsr.data.sources.video import VideoStore, holds_videos
from vsr.data.stream.augment import Crop, to_unit_range
from vsr.data.stream.sampler import SampleKey

OnBadFrame = Literal["error", "skip"]
Sample = dict[str, Tensor | str]
# A training sample as it is read: "lq" and "gt", uint8 planes that may be views; "key"; "augment", the Augmentation
# that was drawn for them; "passed_over", what was wrong with the draws in whose place it stands.
RawSample = dict[str, Any]

_log = logging.getLogger(__name__)


def open_root(option: str, dataroot: str, io_backend: IOBackend, remedy: str, videos: bool = False) -> FrameStore:
    """Returns the store of a data root.

    Args:
        option: its key in the options file, for messages.
        dataroot: folder or LMDB.
        io_backend: which of the two.
        remedy: how to get the data, for the message where it is missing.
        videos: it may also be a video, or a folder of videos; for reading in order.
    """
    root = root_path(option, dataroot)
    try:
        if videos and holds_videos(root):
            return VideoStore(root)
        return open_store(root, io_backend)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{option}: {error}. {remedy}") from None
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def open_lq_root(
    dataroot_lq: str, io_backend: IOBackend, clip: str, scale: int, remedy: str, videos: bool = False
) -> FrameStore:
    """Returns the store of the LQ clips; its root is DATAROOT/X4 where the clips are there, as in REDS's archives.

    Args:
        dataroot_lq: folder or LMDB.
        io_backend: which of the two.
        clip: a clip that must be there, "*" for any.
        scale: names the sub-folder.
        remedy: how to get the data, for the message where it is missing.
        videos: it may also be a video, or a folder of videos.
    """
    root = root_path("dataroot_lq", dataroot_lq)
    deeper = root / f"X{scale}"
    if deeper.is_dir() and (clip == "*" or (not (root / clip).is_dir() and (deeper / clip).is_dir())):
        _log.info("dataroot_lq: the clips are in '%s'", deeper)
        root = deeper
    return open_root("dataroot_lq", str(root), io_backend, remedy, videos)


def check_pair(gt: FrameStore, lq: FrameStore, gt_key: str, lq_key: str, scale: int) -> tuple[int, int]:
    """Returns the LQ frame's height and width.

    Raises:
        ValueError: the GT frame is not ``scale`` times as large.
    """
    (gt_h, gt_w), (lq_h, lq_w) = gt.size(gt_key), lq.size(lq_key)
    if (gt_h, gt_w) != (lq_h * scale, lq_w * scale):
        raise ValueError(
            f"GT is not {scale} x LQ: '{gt.root / gt_key}' is {gt_h} x {gt_w} and '{lq.root / lq_key}' is "
            f"{lq_h} x {lq_w}; check scale, dataroot_gt and dataroot_lq"
        )
    return lq_h, lq_w


def check_frames(store: FrameStore, clip: str, frames: list[str], on_bad_frame: OnBadFrame) -> None:
    """Raises ``FileNotFoundError`` if a store lacks frames of a clip; with "skip", warns unless it lacks all."""
    found = store.frames(clip)
    missing = sorted(set(frames) - set(found))
    if not missing:
        return
    message = (
        f"'{store.root}' lacks {len(missing)} of the {len(frames)} frames of clip '{clip}' that the meta file lists: "
        f"{', '.join(missing[:3])}{' …' if len(missing) > 3 else ''} "
        f"(it has {f'{found[0]} … {found[-1]}' if found else 'no such clip'})"
    )
    if on_bad_frame == "error" or len(missing) == len(frames):
        raise FileNotFoundError(message)
    _log.warning("on_bad_frame: skip: %s", message)


def clip_size(gt: FrameStore, lq: FrameStore, keys: list[str], scale: int, on_bad_frame: OnBadFrame) -> tuple[int, int]:
    """Returns the LQ height and width of a clip, from its first frame; with "skip", from the first that is readable.

    Raises:
        FileNotFoundError: that frame is missing.
        ValueError: it is damaged, or its GT is not ``scale`` times as large.
    """

    def is_readable(key: str) -> bool:
        try:
            return bool(gt.size(key) and lq.size(key))
        except (ValueError, FileNotFoundError):
            return False

    key = keys[0] if on_bad_frame == "error" else next(filter(is_readable, keys), keys[0])
    return check_pair(gt, lq, key, key, scale)


def check_num_frame(num_frame: int) -> None:
    """Raises ``ValueError`` if a window has no centre frame."""
    if num_frame < 1 or num_frame % 2 == 0:
        raise ValueError(f"num_frame {num_frame} is not odd: the centre frame needs as many neighbours on each side")


def check_training_options(num_frame: int, gt_size: int, scale: int, on_bad_frame: str) -> None:
    """Raises ``ValueError`` for options that contradict each other, before any file is looked at."""
    check_num_frame(num_frame)
    if gt_size < scale or gt_size % scale:
        nearest = max(round(gt_size / scale), 1) * scale
        raise ValueError(f"gt_size {gt_size} is not a multiple of scale {scale}; nearest: {nearest}")
    if on_bad_frame not in ("error", "skip"):
        raise ValueError(f"on_bad_frame '{on_bad_frame}' is unknown; known: error, skip")


def read_planes(
    gt: FrameStore, lq: FrameStore, gt_key: str, lq_keys: list[str], crop: Crop, scale: int
) -> dict[str, np.ndarray]:
    """Returns ``crop`` of the LQ frames and its place in the GT frame: "lq" (t, 3, h, w), "gt" (3, h, w), uint8.

    Raises:
        ValueError: a frame cannot be decoded, or is not of the size for which the crop was drawn.
        FileNotFoundError: a frame is missing.
    """
    lq_frames = np.stack([lq.read(key, crop) for key in lq_keys])  # (t, h, w, 3)
    gt_frame = gt.read(gt_key, crop.scaled(scale))
    return {"lq": np.moveaxis(lq_frames, -1, -3), "gt": np.moveaxis(gt_frame, -1, -3)}


def read_or_next(read: Callable[[SampleKey], RawSample], key: SampleKey, on_bad_frame: OnBadFrame) -> RawSample:
    """Returns the sample of ``key``; with "skip", that of the next readable draw if a frame of it is unreadable.

    Raises:
        ValueError: a frame is damaged, and ``on_bad_frame`` is "error" or 100 draws in a row were unreadable.
        FileNotFoundError: a frame is missing, likewise.
    """
    last = key.draw + (100 if on_bad_frame == "skip" else 0)
    passed_over: list[str] = []
    while True:
        try:
            return {**read(key), "passed_over": passed_over}
        except (ValueError, FileNotFoundError) as error:
            if key.draw >= last:
                raise
            passed_over.append(str(error))
            key = key._replace(draw=key.draw + 1)


def augmented(sample: RawSample) -> RawSample:
    """Returns the sample with its planes turned as was drawn."""
    augment = sample["augment"]
    rest = {name: value for name, value in sample.items() if name != "augment"}
    return {name: augment(value) if isinstance(value, np.ndarray) else value for name, value in rest.items()}


def finished(sample: RawSample) -> Sample:
    """Returns the sample augmented, its pixels as float32 tensors in [0, 1]."""
    sample = augmented(sample)
    for message in sample.pop("passed_over"):
        _log.warning("on_bad_frame: skip: %s", message)
    pixels = {name: value for name, value in sample.items() if isinstance(value, np.ndarray)}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(planes)) for name, planes in pixels.items()}
    return {**sample, **{name: to_unit_range(tensor) for name, tensor in tensors.items()}}
