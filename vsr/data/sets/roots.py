"""The roots of GT and LQ frames: opening them, and checking that their frames belong together."""

import logging
from collections.abc import Iterable

from vsr.data.sources import open_store
from vsr.data.sources.base import FrameStore, IOBackend, root_path
from vsr.data.video.store import VideoStore, holds_videos

VIMEO_HELP = (
    "Vimeo-90K's septuplets are at http://toflow.csail.mit.edu; `python scripts/generate_lq.py` makes the LQ frames "
    "and `python scripts/generate_meta_info.py --vimeo sep_trainlist.txt --to FILE` the list"
)

_log = logging.getLogger(__name__)


def open_root(option: str, dataroot: str, io_backend: IOBackend, remedy: str, videos: bool = False) -> FrameStore:
    """Returns the store of a data root; with ``videos``, a video or a folder of videos will do, for reading in order.

    Messages begin with ``option``, the root's key, and end with ``remedy``, how to get missing data.
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
    """Returns the store of the LQ clips; see :func:`open_root`.

    Its root is DATAROOT/X4 (X``scale``, as in REDS's archives) if ``clip`` is only there; "*" is any clip.
    """
    root = root_path("dataroot_lq", dataroot_lq)
    deeper = root / f"X{scale}"
    if deeper.is_dir() and (clip == "*" or (not (root / clip).is_dir() and (deeper / clip).is_dir())):
        _log.info("dataroot_lq: the clips are in '%s'", deeper)
        root = deeper
    return open_root("dataroot_lq", str(root), io_backend, remedy, videos)


def check_pair(gt: FrameStore, lq: FrameStore, gt_key: str, lq_key: str, scale: int) -> tuple[int, int]:
    """Returns the GT frame's height and width.

    Raises:
        ValueError: the GT frame is not ``scale`` times as large as the LQ frame.
    """
    (gt_h, gt_w), (lq_h, lq_w) = gt.size(gt_key), lq.size(lq_key)
    if (gt_h, gt_w) != (lq_h * scale, lq_w * scale):
        raise ValueError(
            f"GT is not {scale} x LQ: '{gt.root / gt_key}' is {gt_h} x {gt_w} and '{lq.root / lq_key}' is "
            f"{lq_h} x {lq_w}; check scale, dataroot_gt and dataroot_lq"
        )
    return gt_h, gt_w


def check_has(stores: Iterable[FrameStore], key: str, list_file: str) -> None:
    """Raises ``FileNotFoundError`` if a store lacks a listed frame."""
    for store in stores:
        if not store.has(key):
            raise FileNotFoundError(f"'{store.root}' has no frame '{key}', which '{list_file}' lists. {VIMEO_HELP}")


def check_num_frame(num_frame: int) -> None:
    """Raises ``ValueError`` if a window has no centre frame."""
    if num_frame < 1 or num_frame % 2 == 0:
        raise ValueError(f"num_frame {num_frame} is not odd: the centre frame needs as many neighbours on each side")
