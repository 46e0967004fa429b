"""Training clips: random crops of windows of frames, from REDS, Vimeo-90K or any folders of frames in order."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from vsr.contracts import DataSpec, Sample, SampleKey
from vsr.data.lists.meta_info import ClipInfo, listed_frames, read_meta_info
from vsr.data.sets.roots import (
    VIMEO_HELP,
    check_has,
    check_num_frame,
    check_pair,
    cropping,
    left_out,
    open_lq_root,
    open_root,
    places_of,
    warn_of_left_out,
)
from vsr.data.sources.base import DISK, Crop, FrameStore, IOBackend, with_missing
from vsr.data.stream.loader import to_unit_range
from vsr.data.stream.sampler import key_from_numpy
from vsr.registry import Positive, Shared, register
from vsr.utils.errors import refuse
from vsr.utils.log import counted

OnBadFrame = Literal["error", "skip"]
GtFrames = Literal["center", "all"]
Starts = Literal["middle", "uniform", "basicsr"]
MOST_SKIPPED = 100  # unreadable draws in a row
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


@dataclass(frozen=True)
class CropOptions:
    """How windows and crops are drawn; see ``REDSDataset`` and ``REDSRecurrentDataset``.

    With ``starts: middle``, the frame of an item is in the middle of the window.
    """

    scale: int
    num_frame: int
    gt_size: int
    intervals: list[int]
    random_reverse: bool
    use_hflip: bool
    use_rot: bool
    on_bad_frame: OnBadFrame
    gt_frames: GtFrames
    starts: Starts = "middle"
    flip_sequence: bool = False

    def __post_init__(self) -> None:
        if self.starts == "middle":
            check_num_frame(self.num_frame)
        mistakes = []
        if self.gt_size < self.scale or self.gt_size % self.scale:
            nearest = max(round(self.gt_size / self.scale), 1) * self.scale
            mistakes.append(f"gt_size {self.gt_size} is not a multiple of scale {self.scale}; nearest: {nearest}")
        if not self.intervals:
            mistakes.append("interval_list is empty; name a distance, [1], or leave it out")
        refuse(mistakes)


def crop_spec(options: CropOptions, list_file: str, has_lq: bool = True) -> DataSpec:
    """Returns what a set of random crops delivers."""
    frames, files = options.num_frame * (2 if options.flip_sequence else 1), (list_file,)
    spec = DataSpec(("train",), num_frames=frames, scale=options.scale, has_lq=has_lq, files=files)
    return spec._replace(gt_frames=options.gt_frames, crop_size=options.gt_size, is_mirrored=options.flip_sequence)


class TrainingClip(NamedTuple):
    """The frames of a clip."""

    name: str  # "000"
    frames: Sequence[str]  # their names, in order
    size: tuple[int, int]  # (h, w) of its GT frames


class ClipCrops(Dataset[Sample]):
    """Random crops of windows of frames. A subclass's constructor sets ``spec``, finds the clips and calls this one.

    Args:
        lq: None delivers samples without ``lq``, for a degradation to make.
        items: (n, 2); an item is a clip's index and a frame of it, the middle or the first of a window. A window that
            would leave the clip is drawn anew.
    """

    spec = DataSpec(("train",))

    def __init__(
        self, gt: FrameStore, lq: FrameStore | None, clips: list[TrainingClip], items: np.ndarray, options: CropOptions
    ) -> None:
        self.gt, self.lq, self.clips, self.items, self.options = gt, lq, clips, items, options
        for name, _, (h, w) in clips:
            if options.gt_size > min(h, w):
                raise ValueError(f"gt_size {options.gt_size} is larger than the frames of clip '{name}', {h} x {w}")
        counts = f"{counted(len(self), 'sample')} of {counted(len(clips), 'clip')}"
        _log.info("%s: %s, from '%s'", type(self).__name__, counts, gt.root)
        notes = cropping({name: size for name, _, size in clips}, options.scale)
        warn_of_left_out(left_out(gt, lq))
        places = places_of((gt, lq), [(clip.name, clip.frames) for clip in clips])
        self.spec = self.spec._replace(clips=places, notes=notes)

    def __len__(self) -> int:
        return len(self.items)

    def resized(self, num_frame: int | None, gt_size: int | None) -> "ClipCrops":
        """Returns the same clips with other training clips and crops: see :class:`vsr.contracts.Resizable`."""
        former, other = self.options, copy.copy(self)
        options = replace(former, num_frame=num_frame or former.num_frame, gt_size=gt_size or former.gt_size)
        for name, frames, _ in self.clips:
            check_length(name, len(frames), options)
        other.spec = crop_spec(options, self.spec.files[0], self.lq is not None)
        ClipCrops.__init__(other, self.gt, self.lq, self.clips, self.items, options)
        return other

    def __getitem__(self, index: int) -> Sample:
        """Returns a sample as float32 tensors in [0, 1]; NumPy's global generator makes its random choices."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of a data set of {len(self)}")
        sample = self.read(index, key_from_numpy())
        for message in sample.pop("passed_over"):
            _log.warning("on_bad_frame: skip: %s", message)
        pixels = {side: torch.from_numpy(sample[side].copy()) for side in ("lq", "gt") if side in sample}
        return {"key": sample["key"], **{side: to_unit_range(tensor) for side, tensor in pixels.items()}}

    def read(self, index: int, key: SampleKey) -> Sample:
        """Returns a sample as it is stored: see :class:`vsr.contracts.Keyed`.

        With ``on_bad_frame: skip``, the next readable draw stands in for an unreadable one.

        Raises:
            ValueError: a frame cannot be decoded, or is not of the clip's size.
            FileNotFoundError: a frame is missing.
        """
        options, passed_over = self.options, []
        while True:
            clip_index, position = self.items[(index + len(passed_over)) % len(self.items)]
            name, frames, (h, w) = self.clips[clip_index]
            rng = np.random.default_rng([key.seed, key.epoch, key.draw + len(passed_over)])  # that of SampleKey
            interval = options.intervals[rng.integers(len(options.intervals))]
            span = (options.num_frame - 1) * interval + 1  # from the first frame to the last
            start, last = position, len(frames) - span
            if options.starts == "middle":
                start -= options.num_frame // 2 * interval
            elif options.starts == "basicsr":  # which counts num_frame · interval frames as the length
                last = max(len(frames) - options.num_frame * interval, 0)
            if options.starts == "uniform" or not 0 <= start <= last:
                start = int(rng.integers(last + 1))
            names = [f"{name}/{frame}" for frame in frames[start : start + span : interval]]
            if options.random_reverse and rng.random() < 0.5:
                names.reverse()
            scale, lq_size = options.scale, options.gt_size // options.scale
            top, left = int(rng.integers(h // scale - lq_size + 1)), int(rng.integers(w // scale - lq_size + 1))
            coins = int(rng.integers(8))
            hflip, vflip = options.use_hflip and coins & 1, options.use_rot and coins & 2
            axes = (0, 3, 2, 1) if options.use_rot and coins & 4 else (0, 3, 1, 2)  # transposed, or not
            turned = np.s_[:, :: -1 if vflip else 1, :: -1 if hflip else 1]
            key_name = names[len(names) // 2]
            sample: Sample = {"key": key_name, "passed_over": passed_over}
            try:
                if self.lq is not None:
                    crop = Crop(top, left, lq_size, lq_size, (h // scale, w // scale))
                    lq = [self.lq.read(frame, crop) for frame in names]
                    sample["lq"] = np.stack(lq + lq[::-1] if options.flip_sequence else lq)[turned].transpose(axes)
                crop = Crop(top * scale, left * scale, options.gt_size, options.gt_size, (h, w))
                gt = [self.gt.read(frame, crop) for frame in (names if options.gt_frames == "all" else [key_name])]
                sample["gt"] = np.stack(gt + gt[::-1] if options.flip_sequence else gt)[turned].transpose(axes)
                return sample  # lq (t, 3, h, w), gt (k, 3, H, W)
            except (ValueError, FileNotFoundError) as error:
                if options.on_bad_frame == "error" or len(passed_over) == MOST_SKIPPED:
                    raise
                passed_over.append(str(error))


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


def check_length(clip: str, num_frames: int, options: CropOptions) -> None:
    """Raises ValueError if a clip is shorter than a window."""
    longest = (options.num_frame - 1) * max(options.intervals) + 1
    if num_frames < longest:
        needs = f"num_frame {options.num_frame} at interval {max(options.intervals)} needs {longest}"
        raise ValueError(f"clip '{clip}' has {num_frames} frames, but {needs}")


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
