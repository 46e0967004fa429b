"""Sources of frames: folders, LMDBs, packed frames, videos."""

from pathlib import Path

from vsr.data.sources.base import DISK, FrameStore, IOBackend
from vsr.data.sources.folder import FolderStore
from vsr.data.sources.lmdb import LmdbStore


def open_store(root: str | Path, io_backend: IOBackend = DISK, clip: str | None = None) -> FrameStore:
    """Returns the store of a data root; ``clip`` is the name of a root that is a clip itself.

    Raises:
        FileNotFoundError: the root does not exist.
        ValueError: the root is stored in another way than ``io_backend`` says.
    """
    root = Path(root)
    if not root.is_dir():
        unfinished = root.with_name(f"{root.name}.partial")
        hint = f", but '{unfinished}' does: run pack_frames.py again, it resumes" if unfinished.is_dir() else ""
        raise FileNotFoundError(f"folder '{root}' does not exist{hint}")
    is_lmdb = (root / "data.mdb").is_file()
    if io_backend.type == "lmdb":
        if not is_lmdb:
            remedy = "for a folder set io_backend: {type: disk}"
            raise ValueError(f"'{root}' is not an LMDB (it holds no data.mdb); {remedy}")
        return LmdbStore(root)
    if is_lmdb:
        raise ValueError(f"'{root}' is an LMDB, not a folder of frames; set io_backend: {{type: lmdb}}")
    return FolderStore(root, clip)
