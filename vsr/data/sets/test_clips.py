"""Test sets: clips with names at once and frames when they are asked for, with ground truth where there is one."""

import logging
from collections.abc import Callable, Sequence
from typing import Annotated, get_args

import numpy as np

from vsr.contracts import Clip, DataSpec, Padding
from vsr.data.lists.meta_info import ClipInfo, listed_frames, read_meta_info, read_text
from vsr.data.sets.roots import (
    VIMEO_HELP,
    check_has,
    check_num_frame,
    check_pair,
    cropping,
    gap_of,
    left_out,
    open_lq_root,
    open_root,
    places_of,
    warn_of_left_out,
)
from vsr.data.sources.base import DEGRADATION_FILE, DISK, Crop, FrameStore, IOBackend
from vsr.data.video.store import VideoStore
from vsr.registry import Positive, Shared, register
from vsr.utils.log import counted

_SEPTUPLET = tuple(f"im{number}" for number in range(1, 8))  # Vimeo-90K's frames
_REMEDY = "Give the folder that holds one folder of frames or one video per clip, see docs/data.md"
_Cache = dict[str, np.ndarray]  # frames by "ROOT/000/00000014"

_log = logging.getLogger(__name__)


@register("dataset")
class VideoTestDataset:
    """Every frame of a folder of clips, in order: ROOT/CLIP/FRAME.png; any names and sizes, with or without GT.

    Or videos: ROOT/CLIP.mp4, or a root that is a video file itself. Its items are :class:`vsr.contracts.Clip`.

    Args:
        dataroot_lq: folder (or LMDB) of the low-resolution clips, also if they are in its sub-folder X4; or a video, or
            a folder of videos.
        dataroot_gt: folder (or LMDB) of the ground truth clips of the same names, or videos likewise; ~ for none.
        meta_info_file: list of the clips, lines ``000 100 (720,1280,3)``: the second column is the number of frames
            that are used, the clip's first, or from the one on whose name ends in the number of a fourth column; a
            name alone takes all. ~ takes every frame of every clip.
        num_frame: frames in the network's window, odd.
        padding: frames that stand in for those before the first and after the last; for frame 0 of a window of 5:
            replicate 0 0 0 1 2, reflection 2 1 0 1 2, reflection_circle 4 3 0 1 2, circle 3 4 0 1 2. A clip shorter
            than the window uses replicate.
        cache_data: keeps every decoded frame in memory, from one validation to the next.
        io_backend: how both roots are stored.
        scale: GT size / LQ size; the options' top level ``scale`` is filled in.

    Raises:
        FileNotFoundError: a root or a clip is missing.
        ValueError: options that contradict each other or the frames, or LQ and GT that do not match.
    """

    def __init__(
        self,
        dataroot_lq: str,
        dataroot_gt: str | None = None,
        meta_info_file: str | None = None,
        num_frame: int = 5,
        padding: Padding = "reflection_circle",
        cache_data: bool = False,
        io_backend: IOBackend = DISK,
        scale: Annotated[Positive, Shared("scale")] = 4,
    ) -> None:
        files = () if meta_info_file is None else (str(meta_info_file),)
        self.spec = DataSpec(("test",), num_frames=num_frame, scale=scale, has_gt=dataroot_gt is not None, files=files)
        check_num_frame(num_frame)
        listed = _each_once(meta_info_file) if meta_info_file else {}
        lq = open_lq_root(dataroot_lq, io_backend, list(listed), scale, _REMEDY, videos=True)
        names, gt = list(listed) or lq.clips(), None
        if dataroot_gt is not None:
            gt = open_root("dataroot_gt", dataroot_gt, io_backend, _REMEDY, names, videos=True)
        if not names:
            raise ValueError(f"dataroot_lq: '{lq.root}' holds no clips. {_REMEDY}")
        if "mean" in names:
            raise ValueError("a clip is called 'mean', as the mean over all is in the results: rename it")
        cache: _Cache | None = {} if cache_data else None
        clips = (_open_clip(lq, gt, name, listed.get(name), scale, cache) for name in names)
        self._clips = [clip._replace(padding=padding) for clip in clips]
        notes = cropping({clip.name: clip.size for clip in self._clips if clip.size is not None}, scale)
        warn_of_left_out(left_out(lq, gt))
        if gt is not None and not listed and (untested := sorted(set(gt.clips()) - set(names))):
            text = "%d clips of dataroot_gt '%s' are not in dataroot_lq '%s', such as '%s': they are not tested"
            _log.warning(text, len(untested), gt.root, lq.root, untested[0])
        places = places_of((lq, gt), ((clip.name, clip.frames) for clip in self._clips))
        frames = sum(len(clip.targets) for clip in self._clips)
        counts = f"{counted(len(self), 'clip')}, {counted(frames, 'frame')}, from '{lq.root}'"
        self.spec = self.spec._replace(degradation=_degradation(lq), clips=places, notes=(counts, *notes))

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Clip:
        return self._clips[index]


@register("dataset")
class VideoTestVimeo90KDataset:
    """The centre frames of Vimeo-90K's septuplets: ROOT/00001/0001/im1.png to im7.png, im4 is restored.

    Its items are :class:`vsr.contracts.Clip`; a clip is a septuplet, "00001/0001".

    Args:
        dataroot_gt: folder (or LMDB) of the ground truth sequences.
        dataroot_lq: folder (or LMDB) of the low-resolution sequences.
        meta_info_file: list of the septuplets, lines ``00001/0001 7 (256,448,3)``.
        num_frame: frames in the network's window, odd: 7 reads all, 5 reads im2 to im6.
        padding: no effect, the window never leaves the septuplet; BasicSR's files hold the key.
        cache_data: keeps every decoded frame in memory, from one validation to the next.
        io_backend: how both roots are stored.
        scale: GT size / LQ size; the options' top level ``scale`` is filled in.

    Raises:
        FileNotFoundError: a root or a septuplet is missing.
        ValueError: options that contradict each other or the frames.
    """

    def __init__(
        self,
        dataroot_gt: str,
        dataroot_lq: str,
        meta_info_file: str,
        num_frame: int = 7,
        padding: Padding = "reflection_circle",
        cache_data: bool = False,
        io_backend: IOBackend = DISK,
        scale: Annotated[Positive, Shared("scale")] = 4,
    ) -> None:
        self.spec = DataSpec(("test",), num_frames=num_frame, scale=scale, files=(str(meta_info_file),))
        check_num_frame(num_frame)
        if num_frame > len(_SEPTUPLET):
            raise ValueError(f"num_frame {num_frame} is more than the 7 frames of a septuplet")
        self._names = list(_each_once(meta_info_file))
        self._lq = open_lq_root(dataroot_lq, io_backend, self._names, scale, VIMEO_HELP)
        self._gt = open_root("dataroot_gt", dataroot_gt, io_backend, VIMEO_HELP, self._names)
        self._sizes: dict[str, tuple[int, int]] = {}
        for name in self._names:
            check_has((self._gt, self._lq), f"{name}/im4", meta_info_file)
            self._sizes[name] = check_pair(self._gt, self._lq, f"{name}/im4", f"{name}/im4", scale)
            _check_one_size(self._lq, name, _SEPTUPLET[3 - num_frame // 2 : 4 + num_frame // 2])
        self._cache: _Cache | None = {} if cache_data else None
        places = places_of((self._gt,), ((name, _SEPTUPLET) for name in self._names))
        notes = cropping(self._sizes, scale)
        self.spec = self.spec._replace(degradation=_degradation(self._lq), clips=places, notes=notes)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Clip:
        name = self._names[index]
        lq = _reader(self._lq, name, _SEPTUPLET, self._cache)
        gt = _reader(self._gt, name, _SEPTUPLET, self._cache, _cropped(self._sizes[name], self.spec.scale or 1))
        return Clip(name, _SEPTUPLET, lq, gt, targets=range(3, 4), size=self._sizes[name])


def generate_frame_indices(
    crt_idx: int, max_frame_num: int, num_frames: int, padding: Padding = "reflection"
) -> list[int]:
    """Returns the window of ``num_frames`` frame indices around ``crt_idx``, of a clip of ``max_frame_num`` frames.

    Args:
        crt_idx: the centre frame, from 0.
        max_frame_num: number of frames in the clip; at least ``num_frames``, unless ``padding`` is replicate.
        num_frames: window size, odd.
        padding: the rule for indices outside the clip, see ``VideoTestDataset``. reflection_circle takes the unused
            neighbours of the other side.

    Raises:
        ValueError: ``num_frames`` is even or ``padding`` unknown.
    """
    check_num_frame(num_frames)
    if padding not in get_args(Padding):
        raise ValueError(f"padding '{padding}' is unknown; known: {', '.join(get_args(Padding))}")
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


def _open_clip(
    lq: FrameStore, gt: FrameStore | None, name: str, listed: ClipInfo | None, scale: int, cache: _Cache | None
) -> Clip:
    """Returns a clip of the stores, its listed frames or all.

    Raises:
        ValueError: LQ and GT do not match, or frames of the clip differ in size.
    """
    lq_frames = _frames(lq, name, listed)
    in_order = isinstance(lq, VideoStore) or isinstance(gt, VideoStore)
    clip = Clip(name, lq_frames, _reader(lq, name, lq_frames, cache), None, range(len(lq_frames)), in_order=in_order)
    _check_one_size(lq, name, lq_frames)
    if gt is None:
        return clip
    gt_frames = _frames(gt, name, listed, lq_frames)
    # Two naming schemes pair by order, and so does a video, which numbers its frames itself. One scheme with different
    # frames missing must not; plain numbers are one.
    unpaired = set(gt_frames) ^ set(lq_frames)
    numbered = all(frame.isdecimal() for frame in (*gt_frames, *lq_frames))
    one_scheme = numbered and set(map(int, gt_frames)) != set(map(int, lq_frames))
    differs = not in_order and (0 < len(unpaired) < 2 * len(gt_frames) or one_scheme)
    if len(gt_frames) != len(lq_frames) or differs:
        found = f"{len(gt_frames)} GT frames in '{gt.root}' and {len(lq_frames)} LQ frames in '{lq.root}'"
        only = ", ".join(sorted(unpaired)[:3])
        raise ValueError(f"clip '{name}' has {found} that do not match; only one side has {only}")
    _check_one_size(gt, name, gt_frames)
    size = check_pair(gt, lq, f"{name}/{gt_frames[0]}", f"{name}/{lq_frames[0]}", scale)
    return clip._replace(gt=_reader(gt, name, gt_frames, cache, _cropped(size, scale)), size=size)


def _each_once(file: str) -> dict[str, ClipInfo]:
    """Returns the clips of a meta file by name; raises ``ValueError`` if it lists different frames of a clip."""
    clips: dict[str, ClipInfo] = {}
    for clip in read_meta_info(file):
        if clip.name in clips:
            if clips[clip.name] != clip:
                raise ValueError(f"'{file}' lists clip '{clip.name}' twice, with different frames; name it once")
            _log.warning("'%s' lists clip '%s' twice: it is tested once", file, clip.name)
        clips[clip.name] = clip
    return clips


def _frames(
    store: FrameStore, clip: str, listed: ClipInfo | None, known: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """Returns the names of a clip's listed frames, or of all; warns of a gap, unless ``known`` are their names, too."""
    frames = store.frames(clip)
    if not frames:
        raise FileNotFoundError(f"clip '{clip}' has no frames in '{store.root}'. {_REMEDY}")
    frames = tuple(listed_frames(listed, frames, store.root) if listed else frames)
    if frames != known and (gap := gap_of(clip, frames, store.root)) is not None:
        _log.warning("%s: the frames around a gap are taken for neighbours", gap)
    return frames


def _check_one_size(store: FrameStore, clip: str, frames: Sequence[str]) -> None:
    """Raises ``ValueError`` if an image of a clip differs in size from the first; all frames of a video have one."""
    if isinstance(store, VideoStore):
        return
    h, w = store.size(f"{clip}/{frames[0]}")
    for frame in frames:
        if (size := store.size(f"{clip}/{frame}")) != (h, w):
            found = f"frame '{frame}' of clip '{clip}' in '{store.root}' is {size[0]} x {size[1]}"
            raise ValueError(f"{found}, but '{frames[0]}' is {h} x {w}; all frames of a clip must have one size")


def _cropped(size: tuple[int, int], scale: int) -> Crop | None:
    """Returns the part of GT frames (h, w) whose sides are multiples of the scale; None for all of them."""
    h, w = (side // scale * scale for side in size)
    return None if (h, w) == size else Crop(0, 0, h, w)


def _reader(
    store: FrameStore, clip: str, frames: tuple[str, ...], cache: _Cache | None, crop: Crop | None = None
) -> Callable[[int], np.ndarray]:
    """Returns the function that reads a clip's frame by its index: (h, w, 3) uint8 RGB, read-only if cached."""

    def read(index: int) -> np.ndarray:
        key = f"{clip}/{frames[index]}"
        if cache is None:
            return store.read(key, crop)
        place = f"{store.root}/{key}"
        if place not in cache:
            cache[place] = store.read(key, crop)
        return cache[place]

    return read


def _degradation(lq: FrameStore) -> str | None:
    """Returns how LQ frames were made, None if unknown."""
    stamp = lq.root / DEGRADATION_FILE
    return read_text(stamp).strip() if stamp.is_file() else None
