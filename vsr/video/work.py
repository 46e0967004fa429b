"""The folder OUT.partial: finished parts of an output, kept until all of it is there."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vsr.utils.files import remove_unfinished, write_text_atomically
from vsr.utils.log import logger
from vsr.video.film import Film, from_record, to_record
from vsr.video.sources import Source

READ_BYTES = 1 << 22


def folder_of(out: Path) -> Path:
    """Returns the folder of the parts of an output."""
    return out.with_name(f"{out.name}.partial")


def digest_of(source: Source) -> str:
    """Returns the SHA-256 of a video's content, or of the names and contents of frames."""
    total = hashlib.sha256()
    for file in source.frames or (source.path,):
        if source.frames:
            total.update(f"{file.name}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        with file.open("rb") as stream:
            while data := stream.read(READ_BYTES):
                total.update(data)
    return total.hexdigest()


class Work:
    """The finished parts of one output with one set of settings, in OUT.partial/KEY.

    Args:
        out: the output.
        settings: all that decides its pixels; the key is their hash. Work with other settings stays untouched.
        is_png: whether the parts are PNG files, and a mark that they are complete.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], is_png: bool = False) -> None:
        self.settings = {key: str(value) for key, value in settings.items()}
        text = json.dumps(self.settings, sort_keys=True)
        self.root = folder_of(out)
        self.folder = self.root / hashlib.sha256(text.encode()).hexdigest()[:12]
        self.manifest = self.folder / "manifest.json"
        self.frames = self.folder / "frames"  # of PNG files
        self.suffix = ".complete" if is_png else ".mkv"

    def film(self) -> Film | None:
        """Returns the film whose parts are here; None where there are none."""
        if not self.manifest.is_file():
            return None
        remove_unfinished(self.folder)
        return from_record(json.loads(self.manifest.read_text(encoding="utf-8"))["film"])

    def begin(self, film: Film) -> None:
        """Records the settings and the film; notes work with other settings."""
        others = sorted(self.root.glob("*/manifest.json"), key=lambda file: file.stat().st_mtime)
        if others:
            before = json.loads(others[-1].read_text(encoding="utf-8"))["settings"]
            changed = [f"{k}: {before.get(k)} → {v}" for k, v in self.settings.items() if before.get(k) != v]
            text = "'%s' holds work with other settings (%s), kept until the output is complete: starting anew"
            logger.info(text, self.root, ", ".join(changed))
        record = {"settings": self.settings, "film": to_record(film)}
        write_text_atomically(self.manifest, json.dumps(record))

    def part(self, frames: range) -> Path:
        """Returns the file of a part, or the mark that its frames are complete; it exists when the part is finished."""
        return self.folder / f"{frames.start:08d}-{frames.stop - 1:08d}{self.suffix}"

    def remove(self) -> None:
        """Removes the parts of an output that is complete, with those of other settings."""
        shutil.rmtree(self.root, ignore_errors=True)
