"""REDS for training: random crops of windows of frames, with the centre frame as ground truth."""

import logging
from typing import Literal

import numpy as np
from torch.utils.data import Dataset

from vsr.data.lists.meta_info import ClipInfo, check_start, listed_frames, read_meta_info
from vsr.data.sets.pairs import (
    OnBadFrame,
    RawSample,
    Sample,
    check_frames,
    check_training_options,
    clip_size,
    finished,
    open_lq_root,
    open_root,
    read_or_next,
    read_planes,
)
from vsr.data.sources.stores import DISK, IOBackend
from vsr.data.stream.augment import draw_augmentation, draw_crop
from vsr.data.stream.sampler import SampleKey, key_of
from vsr.registry import register
from vsr.utils.log import counted

HELP = (
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
class REDSDataset(Dataset[Sample]):
    """Training samples from clips of frames: ROOT/000/00000000.png, …; REDS, or folders of any frames in order.

    A sample is a dict: ``lq`` (num_frame, 3, gt_size / scale, gt_size / scale) and ``gt`` (3, gt_size, gt_size), the
    same place in the centre frame, both RGB in [0, 1]; ``key`` names the centre frame, "000/00000014".

    Args:
        dataroot_gt: folder (or LMDB) of the ground truth clips.
        dataroot_lq: folder (or LMDB) of the low-resolution clips. A sub-folder X4 that holds them is found.
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

    Raises:
        FileNotFoundError: a root, a clip or a frame is missing.
        ValueError: options that contradict each other or the frames.
    """

    phases = ("train",)  # it cuts patches

    def __init__(
        self,
        dataroot_gt: str,
        dataroot_lq: str,
        meta_info_file: str,
        val_partition: Literal["REDS4", "official", "none"],
        scale: int = 4,
        num_frame: int = 5,
        gt_size: int = 256,
        interval_list: list[int] | None = None,
        random_reverse: bool = False,
        use_hflip: bool = False,
        use_rot: bool = False,
        io_backend: IOBackend = DISK,
        dataroot_flow: str | None = None,
        on_bad_frame: OnBadFrame = "error",
    ) -> None:
        if dataroot_flow is not None:
            raise ValueError("dataroot_flow is not supported: no network here reads stored flow; set it to ~")
        check_training_options(num_frame, gt_size, scale, on_bad_frame)
        if interval_list == []:
            raise ValueError("interval_list is empty; name a distance, [1], or leave it out")
        self.intervals = interval_list or [1]
        if min(self.intervals) < 1:
            raise ValueError(f"interval_list {self.intervals} holds a distance less than 1")
        if val_partition not in VAL_PARTITIONS:
            raise ValueError(f"val_partition '{val_partition}' is unknown; known: {', '.join(VAL_PARTITIONS)}")
        self.scale, self.num_frame, self.gt_size = scale, num_frame, gt_size
        self.random_reverse, self.use_hflip, self.use_rot = random_reverse, use_hflip, use_rot
        self.on_bad_frame: OnBadFrame = on_bad_frame

        listed = read_meta_info(meta_info_file)
        self.clips = [clip for clip in listed if clip.name not in VAL_PARTITIONS[val_partition]]
        if not self.clips:
            raise ValueError(
                f"every clip of '{meta_info_file}' is in val_partition {val_partition}, none is left to train on; "
                "set val_partition: none if they are not REDS's"
            )
        self.gt = open_root("dataroot_gt", dataroot_gt, io_backend, HELP)
        self.lq = open_lq_root(dataroot_lq, io_backend, self.clips[0].name, scale, HELP)
        self._other_names = {clip.name: names for clip in self.clips if (names := self._find_other_names(clip))}
        self.lq_sizes = [self._check(clip) for clip in self.clips]
        self._compare_with_list(meta_info_file)
        self._first_item = np.cumsum([0, *(clip.num_frames for clip in self.clips)])  # of each clip
        _log.info(
            "REDSDataset: %s of %d, %s, from '%s'",
            counted(len(self.clips), "clip"), len(listed), counted(len(self), "frame"), self.gt.root,
        )  # fmt: skip

    def __len__(self) -> int:
        """Returns the number of frames of the training clips."""
        return int(self._first_item[-1])

    def __getitem__(self, key: int | SampleKey) -> Sample:
        """Returns a sample; its random choices depend on the key alone."""
        return finished(self.read_raw(key))

    def read_raw(self, key: int | SampleKey) -> RawSample:
        """Returns the sample as it is read: uint8, a quarter of the bytes to carry from a worker; not yet augmented."""
        return read_or_next(self._read, key_of(key), self.on_bad_frame)

    def _read(self, key: SampleKey) -> RawSample:
        rng = key.rng()
        item = key.draw % len(self)
        clip_index = int(np.searchsorted(self._first_item, item, side="right")) - 1
        clip = self.clips[clip_index]
        frames = self._draw_window(rng, clip, item - int(self._first_item[clip_index]))
        crop = draw_crop(rng, self.lq_sizes[clip_index], self.gt_size // self.scale)
        augment = draw_augmentation(rng, self.use_hflip, self.use_rot)
        keys = [f"{clip.name}/{self._name(clip, frame)}" for frame in frames]
        centre = keys[self.num_frame // 2]
        planes = read_planes(self.gt, self.lq, centre, keys, crop, self.scale)
        return {**planes, "key": centre, "augment": augment}

    def _compare_with_list(self, meta_info_file: str) -> None:
        """Warns if the meta file describes frames of another size: then it is perhaps another set's."""
        for clip, (h, w) in zip(self.clips, self.lq_sizes, strict=True):
            size = h * self.scale, w * self.scale
            if clip.shape is not None and clip.shape[:2] != size:
                _log.warning(
                    "'%s' gives the frames of clip '%s' as %d x %d, but they are %d x %d: is it the list of this set?",
                    *(meta_info_file, clip.name, *clip.shape[:2], *size),
                )
                return

    def _draw_window(self, rng: np.random.Generator, clip: ClipInfo, centre: int) -> list[int]:
        """Returns the frames of a window around ``centre``, or around another frame if it would leave the clip."""
        interval = self.intervals[rng.integers(len(self.intervals))]
        reach = self.num_frame // 2 * interval
        if not reach <= centre < clip.num_frames - reach:
            centre = int(rng.integers(reach, clip.num_frames - reach))
        frames = list(range(centre - reach, centre + reach + 1, interval))
        return frames[::-1] if self.random_reverse and rng.random() < 0.5 else frames

    def _name(self, clip: ClipInfo, frame: int) -> str:
        """Returns the name of a clip's frame, counted from 0."""
        other = self._other_names.get(clip.name)
        return other[frame] if other else f"{clip.start + frame:08d}"

    def _find_other_names(self, clip: ClipInfo) -> list[str]:
        """Returns the names of a clip's frames, in order, if none is a number of 8 digits as in REDS."""
        found = self.gt.frames(clip.name)
        as_in_reds = {f"{clip.start + frame:08d}" for frame in range(clip.num_frames)}
        return [] if not found or as_in_reds & set(found) else listed_frames(clip, found, self.gt.root)

    def _check(self, clip: ClipInfo) -> tuple[int, int]:
        """Returns the LQ frame size of a clip after checking what can be checked without reading the frames."""
        longest = (self.num_frame - 1) * max(self.intervals) + 1
        if clip.num_frames < longest:
            raise ValueError(
                f"clip '{clip.name}' has {clip.num_frames} frames, but num_frame {self.num_frame} at interval "
                f"{max(self.intervals)} needs {longest}"
            )
        if self.on_bad_frame == "error" and clip.name not in self._other_names:
            check_start(clip, self.gt.frames(clip.name), self.gt.root)
        names = [self._name(clip, frame) for frame in range(clip.num_frames)]
        keys = [f"{clip.name}/{name}" for name in names]
        for store in (self.gt, self.lq):
            check_frames(store, clip.name, names, self.on_bad_frame)
        size = clip_size(self.gt, self.lq, keys, self.scale, self.on_bad_frame)
        if self.gt_size > min(size) * self.scale:
            raise ValueError(
                f"gt_size {self.gt_size} is larger than the frames of clip '{clip.name}', "
                f"{size[0] * self.scale} x {size[1] * self.scale}"
            )
        return size
