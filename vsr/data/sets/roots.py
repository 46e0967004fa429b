"""The roots of GT and LQ frames: opening them, and checking that their frames belong together."""

import json
import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from vsr.data.sources import open_store
from vsr.data.sources.base import FrameStore, IOBackend, missing_frames, root_path
from vsr.data.sources.folder import FolderStore
from vsr.data.video.store import VideoStore, holds_videos
from vsr.utils.log import counted

VIMEO_HELP = (
    "Vimeo-90K's septuplets are at http://toflow.csail.mit.edu; `python scripts/generate_lq.py` makes the LQ frames "
    "and `python scripts/generate_meta_info.py --vimeo sep_trainlist.txt --to FILE` the list"
)

_log = logging.getLogger(__name__)


def open_root(
    option: str, dataroot: str, io_backend: IOBackend, remedy: str, clips: Sequence[str] = (), videos: bool = False
) -> FrameStore:
    """Returns the store of a data root; with ``videos``, a video or a folder of videos will do, for reading in order.

    Messages begin with ``option``, the root's key, and end with ``remedy``, how to get missing data. The name of a
    single clip in ``clips`` is that of a root that is a clip itself.
    """
    root = root_path(option, dataroot)
    try:
        if videos and holds_videos(root):
            return VideoStore(root)
        return open_store(root, io_backend, clips[0] if len(clips) == 1 else None)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{option}: {error}. {remedy}") from None
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def open_lq_root(
    dataroot_lq: str, io_backend: IOBackend, clips: Sequence[str], scale: int, remedy: str, videos: bool = False
) -> FrameStore:
    """Returns the store of the LQ clips; see :func:`open_root`. No ``clips`` are any.

    Its root is DATAROOT/X4 (X``scale``, as in REDS's archives) if the first clip is only there.
    """
    root = root_path("dataroot_lq", dataroot_lq)
    deeper = root / f"X{scale}"
    is_deeper = not clips or (not (root / clips[0]).is_dir() and (deeper / clips[0]).is_dir())
    if deeper.is_dir() and is_deeper:
        root = deeper
    return open_root("dataroot_lq", str(root), io_backend, remedy, clips, videos)


def check_pair(gt: FrameStore, lq: FrameStore, gt_key: str, lq_key: str, scale: int) -> tuple[int, int]:
    """Returns the GT frame's height and width.

    Raises:
        ValueError: the GT frame, cropped to multiples of ``scale``, is not ``scale`` times as large as the LQ frame.
    """
    (gt_h, gt_w), (lq_h, lq_w) = gt.size(gt_key), lq.size(lq_key)
    if (gt_h // scale, gt_w // scale) != (lq_h, lq_w):
        sizes = f"'{gt.root / gt_key}' is {gt_h} x {gt_w} and '{lq.root / lq_key}' is {lq_h} x {lq_w}"
        raise ValueError(f"GT is not {scale} x LQ: {sizes}; check scale, dataroot_gt and dataroot_lq")
    return gt_h, gt_w


def check_has(stores: Iterable[FrameStore], key: str, list_file: str) -> None:
    """Raises ``FileNotFoundError`` if a store lacks a listed frame."""
    for store in stores:
        if not store.has(key):
            raise FileNotFoundError(f"'{store.root}' has no frame '{key}', which '{list_file}' lists. {VIMEO_HELP}")


def places_of(
    stores: Iterable[FrameStore | None], clips: Iterable[tuple[str, Sequence[str]]]
) -> dict[str, list[range]]:
    """Returns the numbers of the frames that are used, by the clip's folder in each store; see ``DataSpec.clips``."""
    homes = [_home(store) for store in stores if store is not None]
    places: dict[str, list[range]] = {}
    for clip, frames in clips:
        digits = re.search(r"[0-9]*$", frames[0])
        first = int(digits[0]) if digits and digits[0] else 0
        for home, is_flat in homes:
            folder = home if is_flat else os.path.join(home, clip)
            folder = os.path.realpath(folder) if os.path.islink(folder) else folder
            places.setdefault(folder, []).append(range(first, first + len(frames)))
    return places


def _home(store: FrameStore) -> tuple[str, bool]:
    """Returns the folder of a store's clips, of a pack that of the packed frames, and whether it is a clip itself."""
    plan = store.root / "pack.json"
    home = json.loads(plan.read_text())["source"] if plan.is_file() else store.root
    home = store.root.parent if store.root.is_file() else home  # a video
    return os.path.realpath(home), isinstance(store, FolderStore) and store.is_flat


def gap_of(clip: str, frames: Sequence[str], root: Path) -> str | None:
    """Returns which frames a clip's numbering lacks, as a message; None if it lacks none."""
    missing = list(missing_frames(frames))
    if not missing:
        return None
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return f"'{root}' lacks frame {missing[0]}{more} of clip '{clip}' (it has {frames[0]} … {frames[-1]})"


def left_out(*stores: FrameStore | None) -> set[str]:
    """Returns the files that stores have passed over so far."""
    return set().union(*(store.left_out for store in stores if isinstance(store, FolderStore)))


def warn_of_left_out(files: Collection[str]) -> None:
    """Logs how many files of the clips' folders are not read."""
    if files:
        text = "%s left out, such as '%s': no image that can be read, or none of a clip"
        _log.warning(text, counted(len(files), "file"), min(files))


def cropping(sizes: Mapping[str, tuple[int, int]], scale: int) -> tuple[str, ...]:
    """Returns a text that GT frames, (h, w) by clip, are cropped to multiples of the scale; none where they are not."""
    cropped = {clip: (h, w) for clip, (h, w) in sizes.items() if h % scale or w % scale}
    for clip, (h, w) in cropped.items():
        size = f"'{clip}' from {h} x {w} to {h // scale * scale} x {w // scale * scale}, for scale {scale}"
        return (f"GT of {counted(len(cropped), 'clip')} is cropped at the bottom and right: {size}",)
    return ()


def check_num_frame(num_frame: int) -> None:
    """Raises ``ValueError`` if a window has no centre frame."""
    if num_frame < 1 or num_frame % 2 == 0:
        raise ValueError(f"num_frame {num_frame} is not odd: the centre frame needs as many neighbours on each side")
