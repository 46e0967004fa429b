"""Test sets: every frame of every clip with its neighbours, and its ground truth where there is one."""

import logging
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from vsr.data.lists.meta_info import ClipInfo, listed_frames, read_meta_info
from vsr.data.sets.roots import check_num_frame, check_pair, open_lq_root, open_root
from vsr.data.sources.stores import DISK, FrameStore, IOBackend
from vsr.data.stream.augment import to_planes, to_unit_range
from vsr.registry import register
from vsr.utils.log import counted

Padding = Literal["replicate", "reflection", "reflection_circle", "circle"]
PADDINGS = ("replicate", "reflection", "reflection_circle", "circle")
_REMEDY = "Give the folder that holds one folder of frames or one video per clip; docs/data.md says how to get REDS"

_log = logging.getLogger(__name__)


class Clip(NamedTuple):
    """One clip of a test set. Frames are named by their file's stem."""

    name: str
    num_frames: int  # frames that are restored and measured
    lq_frames: tuple[str, ...]
    gt_frames: tuple[str, ...]  # empty without ground truth


@register("dataset")
class VideoTestDataset(Dataset[dict[str, Tensor | str]]):
    """Every frame of a folder of clips, in order: ROOT/CLIP/FRAME.png; any names and sizes, with or without GT.

    Instead of clips there may be videos: ROOT/CLIP.mp4, or a root that is a video file itself.

    A sample is a dict: ``lq`` (num_frame, 3, h, w) and, if there is GT, ``gt`` (3, scale * h, scale * w), RGB in
    [0, 1]; ``clip`` "000", ``frame`` "00000014", ``key`` "000/00000014".

    Args:
        dataroot_lq: folder (or LMDB) of the low-resolution clips. A sub-folder X4 that holds them is found.
            Or a video, or a folder of videos.
        dataroot_gt: folder (or LMDB) of the ground truth clips, or videos likewise; ~ for none. Clips of the same name
            belong together.
        meta_info_file: list of the clips, lines ``000 100 (720,1280,3)``: the second column is the number of frames
            that are used. They are the clip's first, or begin with the one whose name ends in the number of a fourth
            column. ~ takes every frame of every clip.
        num_frame: frames in a window, odd.
        padding: frames that stand in for those before the first and after the last; for frame 0 of a window of 5:
            replicate 0 0 0 1 2, reflection 2 1 0 1 2, reflection_circle 4 3 0 1 2, circle 3 4 0 1 2. A clip shorter
            than the window uses replicate.
        cache_data: keeps every decoded frame in memory, from one validation to the next. Validation then reads without
            workers.
        io_backend: how both roots are stored.
        scale: GT size / LQ size; the options' top level ``scale`` is filled in.

    Attributes:
        padding: for the protocol's name: ``padding``, with "replicate" where some clips are shorter than the window.

    Raises:
        FileNotFoundError: a root or a clip is missing.
        ValueError: options that contradict each other or the frames, or LQ and GT that do not match.
    """

    phases = ("test",)

    def __init__(
        self,
        dataroot_lq: str,
        dataroot_gt: str | None = None,
        meta_info_file: str | None = None,
        num_frame: int = 5,
        padding: Padding = "reflection_circle",
        cache_data: bool = False,
        io_backend: IOBackend = DISK,
        scale: int = 4,
    ) -> None:
        check_window(num_frame, padding)
        self.num_frame, self.scale, self.cache_data = num_frame, scale, cache_data
        self._padding: Padding = padding
        listed = {clip.name: clip for clip in read_meta_info(meta_info_file)} if meta_info_file else {}
        clip = next(iter(listed), "*")
        self.lq = open_lq_root(dataroot_lq, io_backend, clip, scale, _REMEDY, videos=True)
        self.gt = (
            open_root("dataroot_gt", dataroot_gt, io_backend, _REMEDY, videos=True) if dataroot_gt is not None else None
        )
        names = listed or self.lq.clips()
        if not names:
            raise ValueError(f"dataroot_lq: '{self.lq.root}' holds no clips. {_REMEDY}")
        if "mean" in names:
            raise ValueError("a clip is called 'mean', as the mean over all is in the results: rename it")
        self.clips = [self._find_clip(name, listed.get(name)) for name in names]
        left_out = sorted(set(self.gt.clips()) - set(names)) if self.gt is not None and not listed else []
        if self.gt is not None and left_out:
            _log.warning(
                "%d clips of dataroot_gt '%s' are not in dataroot_lq '%s', such as '%s': they are not tested",
                len(left_out),
                self.gt.root,
                self.lq.root,
                left_out[0],
            )
        self.padding = "+".join(sorted({self._padding_of(clip) for clip in self.clips}))
        self._first_item = np.cumsum([0, *(clip.num_frames for clip in self.clips)])  # of each clip
        # Neighbouring samples share all frames but one, so the last window is kept even without cache_data.
        self._read_lq = RecentFrames(self.lq, None if cache_data else num_frame)
        self._read_gt = RecentFrames(self.gt, None if cache_data else 1) if self.gt else None
        clips, frames = counted(len(self.clips), "clip"), counted(len(self), "frame")
        _log.info("VideoTestDataset: %s, %s, from '%s'", clips, frames, self.lq.root)

    def __len__(self) -> int:
        """Returns the number of frames of all clips."""
        return int(self._first_item[-1])

    def __getitem__(self, item: int) -> dict[str, Tensor | str]:
        """Returns the sample of one frame."""
        if not 0 <= item < len(self):
            raise IndexError(f"frame {item} of a test set of {len(self)}")
        clip_index = int(np.searchsorted(self._first_item, item, side="right")) - 1
        clip, centre = self.clips[clip_index], item - int(self._first_item[clip_index])
        window = generate_frame_indices(centre, clip.num_frames, self.num_frame, self._padding_of(clip))
        lq = read_window(self._read_lq, [f"{clip.name}/{clip.lq_frames[index]}" for index in window])
        frame = clip.lq_frames[centre]
        sample: dict[str, Tensor | str] = {"clip": clip.name, "frame": frame, "key": f"{clip.name}/{frame}"}
        sample["lq"] = to_unit_range(to_planes(lq))
        if self._read_gt:
            gt = self._read_gt(f"{clip.name}/{clip.gt_frames[centre]}")
            check_sizes(gt, lq[0], self.scale, f"{clip.name}/{frame}")
            sample["gt"] = to_unit_range(to_planes(gt))
        return sample

    def _padding_of(self, clip: Clip) -> Padding:
        return self._padding if clip.num_frames >= self.num_frame else "replicate"

    def _find_clip(self, name: str, listed: ClipInfo | None) -> Clip:
        """Returns a clip of the stores, its listed frames or all."""
        lq_frames = _clip_frames(self.lq, name, listed)
        if self.gt is None:
            return Clip(name, len(lq_frames), lq_frames, ())
        gt_frames = _clip_frames(self.gt, name, listed)
        # Two naming schemes pair by order; one scheme with different frames missing must not. Plain numbers are one.
        unpaired = set(gt_frames) ^ set(lq_frames)
        numbered = all(frame.isdecimal() for frame in (*gt_frames, *lq_frames))
        one_scheme = numbered and set(map(int, gt_frames)) != set(map(int, lq_frames))
        if len(gt_frames) != len(lq_frames) or 0 < len(unpaired) < 2 * len(gt_frames) or one_scheme:
            raise ValueError(
                f"clip '{name}' has {len(gt_frames)} GT frames in '{self.gt.root}' and {len(lq_frames)} LQ frames in "
                f"'{self.lq.root}' that do not match; only one side has {', '.join(sorted(unpaired)[:3])}"
            )
        check_pair(self.gt, self.lq, f"{name}/{gt_frames[0]}", f"{name}/{lq_frames[0]}", self.scale)
        return Clip(name, len(lq_frames), lq_frames, gt_frames)


def generate_frame_indices(
    crt_idx: int, max_frame_num: int, num_frames: int, padding: Padding = "reflection"
) -> list[int]:
    """Returns the window of ``num_frames`` frame indices around ``crt_idx``.

    Args:
        crt_idx: the centre frame, from 0.
        max_frame_num: number of frames in the clip.
        num_frames: window size, odd.
        padding: what replaces indices outside the clip; for frame 0 of a window of 5: replicate 0 0 0 1 2,
            reflection 2 1 0 1 2, reflection_circle 4 3 0 1 2 (the unused neighbours of the other side), circle
            3 4 0 1 2. All but replicate need a clip at least as long as the window.

    Raises:
        ValueError: ``num_frames`` is even or ``padding`` unknown.
    """
    check_window(num_frames, padding)
    last, reach = max_frame_num - 1, num_frames // 2

    def replacement(index: int) -> int:
        if 0 <= index <= last:
            return index
        if padding == "replicate":
            return 0 if index < 0 else last
        if padding == "reflection":
            return -index if index < 0 else 2 * last - index
        if padding == "reflection_circle":
            return crt_idx + reach - index if index < 0 else crt_idx - reach + last - index
        return num_frames + index if index < 0 else index - num_frames

    return [replacement(index) for index in range(crt_idx - reach, crt_idx + reach + 1)]


class RecentFrames:
    """Reads frames of a store and keeps those used last.

    Args:
        store: where they come from.
        limit: how many are kept; None keeps all.
    """

    def __init__(self, store: FrameStore, limit: int | None) -> None:
        self.store = store
        self.limit = limit
        self.frames: dict[str, np.ndarray] = {}  # the one used longest ago comes first

    def __call__(self, key: str) -> np.ndarray:
        """Returns a frame, (h, w, 3) uint8 RGB; not to be written to."""
        if key not in self.frames and self.limit is not None and len(self.frames) >= self.limit:
            del self.frames[next(iter(self.frames))]
        self.frames[key] = self.frames.pop(key) if key in self.frames else self.store.read(key)
        return self.frames[key]


def read_window(read: RecentFrames, keys: list[str]) -> np.ndarray:
    """Returns frames of one clip, (t, h, w, 3) uint8 RGB.

    Raises:
        FileNotFoundError: a frame is missing.
        ValueError: a frame cannot be decoded, or has another size than the first.
    """
    frames = [read(key) for key in keys]
    h, w, _ = frames[0].shape
    for key, frame in zip(keys, frames, strict=True):
        if frame.shape != frames[0].shape:
            raise ValueError(
                f"LQ frame '{key}' in '{read.store.root}' is {frame.shape[0]} x {frame.shape[1]}, but '{keys[0]}' is "
                f"{h} x {w}; all frames of a clip must have one size"
            )
    return np.stack(frames)


def _clip_frames(store: FrameStore, clip: str, listed: ClipInfo | None) -> tuple[str, ...]:
    """Returns the listed frames of a clip, or all."""
    frames = store.frames(clip)
    if not frames:
        raise FileNotFoundError(f"clip '{clip}' has no frames in '{store.root}'. {_REMEDY}")
    return tuple(listed_frames(listed, frames, store.root) if listed else frames)


def check_window(num_frame: int, padding: str) -> None:
    """Raises ``ValueError`` if a window is even or its padding unknown."""
    check_num_frame(num_frame)
    if padding not in PADDINGS:
        raise ValueError(f"padding '{padding}' is unknown; known: {', '.join(PADDINGS)}")


def check_sizes(gt: np.ndarray, lq: np.ndarray, scale: int, key: str) -> None:
    """Raises ``ValueError`` if a GT frame is not ``scale`` times as large as its LQ frame."""
    (gt_h, gt_w, _), (lq_h, lq_w, _) = gt.shape, lq.shape
    if (gt_h, gt_w) != (lq_h * scale, lq_w * scale):
        raise ValueError(f"GT is not {scale} x LQ in frame '{key}': {gt_h} x {gt_w} and {lq_h} x {lq_w}")
