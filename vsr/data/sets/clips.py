"""Sets of training clips: REDS, Vimeo-90K, or any folders of frames in order."""

import logging
from functools import cache
from typing import Annotated, Literal

import numpy as np

from vsr.data.lists.meta_info import ClipInfo, listed_frames, read_meta_info
from vsr.data.sets.crops import ClipCrops, CropOptions, GtFrames, OnBadFrame, TrainingClip, check_length, crop_spec
from vsr.data.sets.roots import (
    VIMEO_HELP,
    check_has,
    check_pair,
    open_lq_root,
    open_root,
)
from vsr.data.sources.base import DISK, FrameStore, IOBackend, with_missing
from vsr.registry import Positive, Shared, register

REDS_HELP = (
    "REDS is at https://seungjunnah.github.io/Datasets/reds.html (train_sharp, train_sharp_bicubic, val_sharp, "
    "val_sharp_bicubic); `python scripts/prepare_reds.py` puts its parts where they belong"
)
# Clips kept for validation. "REDS4" are those of the EDVR paper (4 of the training clips); "official" is the
# challenge's validation set, which regrouping renames from 000-029 to 240-269.
VAL_PARTITIONS = {
    "REDS4": {"000", "011", "015", "020"},
    "official": {f"{clip:03d}" for clip in range(240, 270)},
    "none": set(),
}

_log = logging.getLogger(__name__)


@register("dataset")
class REDSDataset(ClipCrops):
    """Training samples from clips of frames: ROOT/000/00000000.png, …; REDS, or folders of any frames in order.

    A sample is a dict: ``lq`` (num_frame, 3, gt_size / scale, gt_size / scale), ``gt`` (k, 3, gt_size, gt_size), the
    same place in k GT frames, both RGB; ``key`` names the middle frame, "000/00000014".

    Args:
        dataroot_gt: folder (or LMDB) of the ground truth clips.
        dataroot_lq: folder (or LMDB) of the low-resolution clips. A sub-folder X4 that holds them is found. ~ needs
            ``gt_frames: all`` and a ``degradation``, which makes LQ frames of the GT frames.
        meta_info_file: list of the clips, lines ``000 100 (720,1280,3)``; the second column is the number of frames.
        val_partition: clips left out for validation: REDS4 (000, 011, 015, 020), official (240 to 269), or none.
        scale: GT size / LQ size; the options' top level ``scale`` is filled in.
        num_frame: frames in a window, odd.
        gt_size: side of the GT crop in pixels, a multiple of ``scale``.
        interval_list: distances between neighbouring frames of a window, one drawn per sample. ~ is [1].
        random_reverse: plays half of the windows backwards.
        use_hflip: mirrors half of the samples.
        use_rot: flips half of the samples vertically and transposes half of them.
        io_backend: how both roots are stored.
        dataroot_flow: not supported; ~.
        on_bad_frame: error stops at a damaged or missing frame, skip logs it and takes the next readable draw instead.
        gt_frames: the frames with ground truth: ``center`` (k = 1), or ``all`` of the window (k = num_frame).

    Raises:
        FileNotFoundError: a root, a clip or a frame is missing.
        ValueError: options that contradict each other or the frames.
    """

    def __init__(
        self,
        dataroot_gt: str,
        dataroot_lq: str | None,
        meta_info_file: str,
        val_partition: Literal["REDS4", "official", "none"],
        scale: Annotated[Positive, Shared("scale")] = 4,
        num_frame: Positive = 5,
        gt_size: Positive = 256,
        interval_list: list[Positive] | None = None,
        random_reverse: bool = False,
        use_hflip: bool = False,
        use_rot: bool = False,
        io_backend: IOBackend = DISK,
        dataroot_flow: str | None = None,
        on_bad_frame: OnBadFrame = "error",
        gt_frames: GtFrames = "center",
    ) -> None:
        if dataroot_flow is not None:
            raise ValueError("dataroot_flow is not supported: no network here reads stored flow; set it to ~")
        if dataroot_lq is None and gt_frames != "all":
            raise ValueError("dataroot_lq: ~, so that a degradation has to make LQ frames: set gt_frames: all")
        intervals = [1] if interval_list is None else interval_list
        options = CropOptions(
            scale, num_frame, gt_size, intervals, random_reverse, use_hflip, use_rot, on_bad_frame, gt_frames
        )
        self.spec = crop_spec(options, meta_info_file, dataroot_lq is not None)
        super().__init__(*find_clips(dataroot_gt, dataroot_lq, meta_info_file, val_partition, io_backend, options))


@register("dataset")
class Vimeo90KDataset(ClipCrops):
    """Training samples from septuplets: ROOT/00001/0001/im1.png to im7.png, around im4.

    Samples are those of ``REDSDataset``; ``key`` is "00001/0001/im4".

    Args:
        dataroot_gt: folder (or LMDB) of the ground truth sequences.
        dataroot_lq: folder (or LMDB) of the low-resolution sequences.
        meta_info_file: list of the septuplets, lines ``00001/0001 7 (256,448,3)``.
        scale: GT size / LQ size; the options' top level ``scale`` is filled in.
        num_frame: frames in a window, odd: 7 reads all, 5 reads im2 to im6.
        gt_size: side of the GT crop in pixels, a multiple of ``scale``.
        random_reverse: plays half of the windows backwards.
        use_hflip: mirrors half of the samples.
        use_rot: flips half of the samples vertically and transposes half of them.
        io_backend: how both roots are stored.
        on_bad_frame: error stops at a damaged or missing frame, skip logs it and takes the next readable draw instead.
        gt_frames: the frames with ground truth: ``center`` (k = 1), or ``all`` of the window (k = num_frame).

    Raises:
        FileNotFoundError: a root is missing, or one of a hundred septuplets spread over the list.
        ValueError: options that contradict each other or the frames.
    """

    def __init__(
        self,
        dataroot_gt: str,
        dataroot_lq: str,
        meta_info_file: str,
        scale: Annotated[Positive, Shared("scale")] = 4,
        num_frame: Positive = 7,
        gt_size: Positive = 256,
        random_reverse: bool = False,
        use_hflip: bool = False,
        use_rot: bool = False,
        io_backend: IOBackend = DISK,
        on_bad_frame: OnBadFrame = "error",
        gt_frames: GtFrames = "center",
    ) -> None:
        options = CropOptions(
            scale, num_frame, gt_size, [1], random_reverse, use_hflip, use_rot, on_bad_frame, gt_frames
        )
        self.spec = crop_spec(options, meta_info_file)
        super().__init__(*find_septuplets(dataroot_gt, dataroot_lq, meta_info_file, io_backend, options))


Found = tuple[FrameStore, FrameStore | None, list[TrainingClip], np.ndarray, CropOptions]  # ClipCrops's arguments


def find_clips(
    dataroot_gt: str,
    dataroot_lq: str | None,
    meta_info_file: str,
    val_partition: str,
    io_backend: IOBackend,
    options: CropOptions,
) -> Found:
    """Returns the clips of ``REDSDataset``'s arguments, an item per frame."""
    listed = [info for info in read_meta_info(meta_info_file) if info.name not in VAL_PARTITIONS[val_partition]]
    if not listed:
        text = f"every clip of '{meta_info_file}' is in val_partition {val_partition}, none is left to train on"
        raise ValueError(f"{text}; set val_partition: none if they are not REDS's")
    names = list(dict.fromkeys(info.name for info in listed))
    gt, lq = open_root("dataroot_gt", dataroot_gt, io_backend, REDS_HELP, names), None
    if dataroot_lq is not None:
        lq = open_lq_root(dataroot_lq, io_backend, names, options.scale, REDS_HELP)
    clips = [_find_clip(info, gt, lq, options) for info in listed]
    _compare_with_list(clips, listed, meta_info_file)
    items = [(number, frame) for number, clip in enumerate(clips) for frame in range(len(clip.frames))]
    return gt, lq, clips, np.array(items, np.int32), options


def find_septuplets(
    dataroot_gt: str, dataroot_lq: str, meta_info_file: str, io_backend: IOBackend, options: CropOptions
) -> Found:
    """Returns the septuplets of ``Vimeo90KDataset``'s arguments, an item each."""
    if options.num_frame > 7:
        raise ValueError(f"num_frame {options.num_frame} is more than the 7 frames of a septuplet")
    names = [info.name for info in read_meta_info(meta_info_file)]
    gt = open_root("dataroot_gt", dataroot_gt, io_backend, VIMEO_HELP)
    lq = open_lq_root(dataroot_lq, io_backend, names, options.scale, VIMEO_HELP)
    size = (0, 0)
    for name in (*names[:: max(1, len(names) // 100)], names[-1]):  # all would be 64,612 look-ups on each side
        check_has((gt, lq), f"{name}/im4", meta_info_file)
        size = check_pair(gt, lq, f"{name}/im4", f"{name}/im4", options.scale)
    frames = [f"im{number}" for number in range(1, 8)]
    items = np.stack([np.arange(len(names)), np.full(len(names), 3)], axis=1)  # im4 of each
    return gt, lq, [TrainingClip(name, frames, size) for name in names], items, options


def _find_clip(info: ClipInfo, gt: FrameStore, lq: FrameStore | None, options: CropOptions) -> TrainingClip:
    """Returns a listed clip after checking all that can be checked without decoding its frames."""
    found = gt.frames(info.name)
    if len(found) < (info.num_frames or 1) and not set(map(len, found)) - {8}:
        frames = _reds_names(info.start, info.num_frames or 1)  # the first or the last may be missing
    else:
        frames = listed_frames(info, with_missing(found), gt.root)
    check_length(info.name, len(frames), options)
    _check_frames(gt, found, info.name, frames, options.on_bad_frame)
    if lq is not None:
        _check_frames(lq, lq.frames(info.name), info.name, frames, options.on_bad_frame)
    size = (0, 0)
    for frame in frames:
        key = f"{info.name}/{frame}"
        try:
            size = gt.size(key) if lq is None else check_pair(gt, lq, key, key, options.scale)
            break
        except (ValueError, FileNotFoundError):
            if options.on_bad_frame == "error" or frame == frames[-1]:
                raise
    return TrainingClip(info.name, frames, size)


@cache  # most clips have as many frames
def _reds_names(start: int, num_frames: int) -> list[str]:
    return [f"{number:08d}" for number in range(start, start + num_frames)]


def _check_frames(store: FrameStore, found: list[str], clip: str, frames: list[str], on_bad_frame: OnBadFrame) -> None:
    """Raises ``FileNotFoundError`` if a store lacks frames of a clip; with "skip", warns unless it lacks all."""
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


def _compare_with_list(clips: list[TrainingClip], listed: list[ClipInfo], file: str) -> None:
    """Warns if the meta file gives frames another size: it may be the list of another set."""
    for clip, info in zip(clips, listed, strict=True):
        if info.shape is not None and info.shape[:2] != clip.size:
            _log.warning(
                "'%s' gives the frames of clip '%s' as %d x %d, but they are %d x %d: is it the list of this set?",
                *(file, clip.name, *info.shape[:2], *clip.size),
            )
            return
