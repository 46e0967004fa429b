"""Vimeo-90K septuplets, for training and testing."""

import logging

from torch.utils.data import Dataset

from vsr.data.lists.meta_info import read_meta_info
from vsr.data.sets.pairs import (
    OnBadFrame,
    RawSample,
    Sample,
    check_pair,
    check_training_options,
    finished,
    open_lq_root,
    open_root,
    read_or_next,
    read_planes,
)
from vsr.data.sets.test_clips import Clip, Padding, RecentFrames, check_sizes, check_window, read_window
from vsr.data.sources.stores import DISK, IOBackend
from vsr.data.stream.augment import draw_augmentation, draw_crop, to_planes, to_unit_range
from vsr.data.stream.sampler import SampleKey, key_of
from vsr.registry import register

HELP = (
    "Vimeo-90K's septuplets are at http://toflow.csail.mit.edu; `python scripts/generate_lq.py` makes the LQ frames "
    "and `python scripts/generate_meta_info.py --vimeo sep_trainlist.txt --to FILE` the list"
)
_log = logging.getLogger(__name__)


@register("dataset")
class Vimeo90KDataset(Dataset[Sample]):
    """Training samples from septuplets: ROOT/00001/0001/im1.png to im7.png.

    A sample is a dict: ``lq`` (num_frame, 3, gt_size / scale, gt_size / scale) around im4 and ``gt`` (3, gt_size,
    gt_size), the same place in im4, both RGB in [0, 1]; ``key`` "00001/0001".

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

    Raises:
        FileNotFoundError: a root is missing, or one of a hundred septuplets spread over the list.
        ValueError: options that contradict each other or the frames.
    """

    phases = ("train",)  # it cuts patches

    def __init__(
        self,
        dataroot_gt: str,
        dataroot_lq: str,
        meta_info_file: str,
        scale: int = 4,
        num_frame: int = 7,
        gt_size: int = 256,
        random_reverse: bool = False,
        use_hflip: bool = False,
        use_rot: bool = False,
        io_backend: IOBackend = DISK,
        on_bad_frame: OnBadFrame = "error",
    ) -> None:
        check_training_options(num_frame, gt_size, scale, on_bad_frame)
        if num_frame > 7:
            raise ValueError(f"num_frame {num_frame} is more than the 7 frames of a septuplet")
        self.scale, self.gt_size, self.numbers = scale, gt_size, septuplet_window(num_frame)
        self.random_reverse, self.use_hflip, self.use_rot = random_reverse, use_hflip, use_rot
        self.on_bad_frame: OnBadFrame = on_bad_frame
        self.names = [clip.name for clip in read_meta_info(meta_info_file)]
        self.gt = open_root("dataroot_gt", dataroot_gt, io_backend, HELP)
        self.lq = open_lq_root(dataroot_lq, io_backend, self.names[0], scale, HELP)
        spread = self.names[:: max(1, len(self.names) // 100)]  # all would be 64,612 look-ups on each side
        for key in (f"{name}/im4" for name in (*spread, self.names[-1])):
            for store in (self.gt, self.lq):
                if not store.has(key):
                    raise FileNotFoundError(
                        f"'{store.root}' has no frame '{key}', which '{meta_info_file}' lists. {HELP}"
                    )
            self.lq_size = check_pair(self.gt, self.lq, key, key, scale)
        if gt_size > min(self.lq_size) * scale:
            h, w = self.lq_size
            raise ValueError(f"gt_size {gt_size} is larger than the frames, {h * scale} x {w * scale}")
        _log.info("Vimeo90KDataset: %d septuplets from '%s'", len(self), self.gt.root)

    def __len__(self) -> int:
        """Returns the number of septuplets."""
        return len(self.names)

    def __getitem__(self, key: int | SampleKey) -> Sample:
        """Returns a sample; its random choices depend on the key alone."""
        return finished(self.read_raw(key))

    def read_raw(self, key: int | SampleKey) -> RawSample:
        """Returns the sample as it is read: uint8, a quarter of the bytes to carry from a worker; not yet augmented."""
        return read_or_next(self._read, key_of(key), self.on_bad_frame)

    def _read(self, key: SampleKey) -> RawSample:
        rng = key.rng()
        name = self.names[key.draw % len(self)]
        numbers = self.numbers[::-1] if self.random_reverse and rng.random() < 0.5 else self.numbers
        crop = draw_crop(rng, self.lq_size, self.gt_size // self.scale)
        augment = draw_augmentation(rng, self.use_hflip, self.use_rot)
        keys = [f"{name}/im{number}" for number in numbers]
        planes = read_planes(self.gt, self.lq, f"{name}/im4", keys, crop, self.scale)
        return {**planes, "key": name, "augment": augment}


@register("dataset")
class VideoTestVimeo90KDataset(Dataset[Sample]):
    """The centre frames of Vimeo-90K's septuplets: ROOT/00001/0001/im1.png to im7.png, im4 is restored.

    Samples are those of ``VideoTestDataset``; a clip is a septuplet, ``clip`` "00001/0001", ``frame`` "im4".

    Args:
        dataroot_gt: folder (or LMDB) of the ground truth sequences.
        dataroot_lq: folder (or LMDB) of the low-resolution sequences.
        meta_info_file: list of the septuplets, lines ``00001/0001 7 (256,448,3)``.
        num_frame: frames in a window, odd: 7 reads all, 5 reads im2 to im6.
        padding: no effect, the window never leaves the septuplet; BasicSR's files hold the key.
        cache_data: keeps every decoded frame in memory, from one validation to the next. Validation then reads without
            workers.
        io_backend: how both roots are stored.
        scale: GT size / LQ size; the options' top level ``scale`` is filled in.

    Raises:
        FileNotFoundError: a root or a septuplet is missing.
        ValueError: options that contradict each other or the frames.
    """

    phases = ("test",)

    def __init__(
        self,
        dataroot_gt: str,
        dataroot_lq: str,
        meta_info_file: str,
        num_frame: int = 7,
        padding: Padding = "reflection_circle",
        cache_data: bool = False,
        io_backend: IOBackend = DISK,
        scale: int = 4,
    ) -> None:
        check_window(num_frame, padding)
        if num_frame > 7:
            raise ValueError(f"num_frame {num_frame} is more than the 7 frames of a septuplet")
        self.num_frame, self.scale, self.cache_data = num_frame, scale, cache_data
        self.padding = "reflection_circle"  # for the protocol's name: windows never leave a septuplet
        self.names = [clip.name for clip in read_meta_info(meta_info_file)]
        self.lq = open_lq_root(dataroot_lq, io_backend, self.names[0], scale, HELP)
        self.gt = open_root("dataroot_gt", dataroot_gt, io_backend, HELP)
        for name in self.names:
            for store in (self.gt, self.lq):
                if not store.has(f"{name}/im4"):
                    raise FileNotFoundError(f"'{store.root}' has no frame '{name}/im4', which '{meta_info_file}' lists")
        check_pair(self.gt, self.lq, f"{self.names[0]}/im4", f"{self.names[0]}/im4", scale)
        self.clips = [Clip(name, 1, ("im4",), ("im4",)) for name in self.names]
        self._read_lq = RecentFrames(self.lq, None if cache_data else num_frame)
        self._read_gt = RecentFrames(self.gt, None if cache_data else 1)

    def __len__(self) -> int:
        """Returns the number of septuplets."""
        return len(self.names)

    def __getitem__(self, item: int) -> Sample:
        """Returns the sample of one septuplet."""
        key = f"{self.names[item]}/im4"
        numbers = septuplet_window(self.num_frame)
        lq = read_window(self._read_lq, [f"{self.names[item]}/im{number}" for number in numbers])
        gt = self._read_gt(key)
        check_sizes(gt, lq[0], self.scale, key)
        return {
            "lq": to_unit_range(to_planes(lq)),
            "gt": to_unit_range(to_planes(gt)),
            "clip": self.names[item],
            "frame": "im4",
            "key": key,
        }


def septuplet_window(num_frame: int) -> list[int]:
    """Returns the numbers of the frames around im4: [2, 3, 4, 5, 6] of 5."""
    return list(range(4 - num_frame // 2, 4 + num_frame // 2 + 1))
