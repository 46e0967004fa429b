"""Writes meta files, the lists of clips of REDS's kind."""

from collections.abc import Iterable
from pathlib import Path

from vsr.data.lists.meta_info import ClipInfo
from vsr.utils.files import write_text_atomically


def write_meta_info(path: str | Path, clips: Iterable[ClipInfo]) -> None:
    """Writes a meta file atomically, since a truncated list would train on fewer clips; line ends are line feeds."""
    write_text_atomically(Path(path), "".join(f"{clip.line()}\n" for clip in clips))
