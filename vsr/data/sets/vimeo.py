"""Vimeo-90K's septuplets, for testing; :mod:`vsr.data.sets.clips` reads them for training."""

from torch.utils.data import Dataset

from vsr.contracts import Sample
from vsr.data.lists.meta_info import read_meta_info
from vsr.data.sets.clips import VIMEO_HELP
from vsr.data.sets.roots import check_pair, open_lq_root, open_root
from vsr.data.sets.test_clips import Clip, Padding, RecentFrames, check_sizes, check_window, read_window
from vsr.data.sources.stores import DISK, IOBackend
from vsr.data.stream.augment import to_planes, to_unit_range
from vsr.registry import register


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
        self.lq = open_lq_root(dataroot_lq, io_backend, self.names[0], scale, VIMEO_HELP)
        self.gt = open_root("dataroot_gt", dataroot_gt, io_backend, VIMEO_HELP)
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
