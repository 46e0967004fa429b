"""The roots of GT and LQ frames: opening them, and checking that their frames belong together."""

import logging

from vsr.data.sources import open_store
from vsr.data.sources.base import FrameStore, IOBackend, root_path
from vsr.data.sources.video import VideoStore, holds_videos

_log = logging.getLogger(__name__)


def open_root(option: str, dataroot: str, io_backend: IOBackend, remedy: str, videos: bool = False) -> FrameStore:
    """Returns the store of a data root.

    Args:
        option: its key in the options file, for messages.
        dataroot: folder or LMDB.
        io_backend: which of the two.
        remedy: how to get the data, for the message where it is missing.
        videos: accepts a video, or a folder of videos; for reading in order.
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
        videos: accepts a video, or a folder of videos.
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


def check_num_frame(num_frame: int) -> None:
    """Raises ``ValueError`` if a window has no centre frame."""
    if num_frame < 1 or num_frame % 2 == 0:
        raise ValueError(f"num_frame {num_frame} is not odd: the centre frame needs as many neighbours on each side")
