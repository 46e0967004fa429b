"""What training and test sets share: opening a data root, and checking that GT and LQ frames belong together."""

import logging
from pathlib import Path

from vsr.data.stores import FrameStore, IOBackend, open_store

_log = logging.getLogger(__name__)


def open_root(option: str, dataroot: str, io_backend: IOBackend, remedy: str) -> FrameStore:
    """Returns the store of a data root.

    Args:
        option: its key in the options file, for messages.
        dataroot: folder or LMDB.
        io_backend: which of the two.
        remedy: how to get the data, for the message where it is missing.
    """
    try:
        return open_store(dataroot, io_backend)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{option}: {error}. {remedy}") from None
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def open_lq_root(dataroot_lq: str, io_backend: IOBackend, clip: str, scale: int, remedy: str) -> FrameStore:
    """Returns the store of the LQ clips; its root is DATAROOT/X4 where the clips are there, as in REDS's archives.

    Args:
        dataroot_lq: folder or LMDB.
        io_backend: which of the two.
        clip: a clip that must be there, "*" for any.
        scale: names the sub-folder.
        remedy: how to get the data, for the message where it is missing.
    """
    root, deeper = Path(dataroot_lq), Path(dataroot_lq) / f"X{scale}"
    if deeper.is_dir() and (clip == "*" or (not (root / clip).is_dir() and (deeper / clip).is_dir())):
        _log.info("dataroot_lq: the clips are in '%s'", deeper)
        root = deeper
    return open_root("dataroot_lq", str(root), io_backend, remedy)


def check_pair(gt: FrameStore, lq: FrameStore, gt_key: str, lq_key: str, scale: int) -> tuple[int, int]:
    """Returns the LQ frame's height and width.

    Raises:
        ValueError: the GT frame is not ``scale`` times as large.
    """
    (gt_h, gt_w), (lq_h, lq_w) = gt.size(gt_key), lq.size(lq_key)
    if (gt_h, gt_w) != (lq_h * scale, lq_w * scale):
        raise ValueError(
            f"GT is not {scale} x LQ: '{gt.root / gt_key}' is {gt_h} x {gt_w} and '{lq.root / lq_key}' is "
            f"{lq_h} x {lq_w}; check scale, dataroot_gt and dataroot_lq"
        )
    return lq_h, lq_w
