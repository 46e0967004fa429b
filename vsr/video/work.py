"""The folder OUT.partial: finished parts of an output, kept until all of it is there, and the writer of parts."""

import hashlib
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from vsr.data.video.encoding import Encoder, Encoding, encoder, write_png
from vsr.utils.errors import UserError
from vsr.utils.files import remove_unfinished, sync, write_text_atomically
from vsr.utils.log import logger
from vsr.video.film import Film, from_record, to_record
from vsr.video.pictures import Size
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
        self.whole = self.folder / f".{out.name}.tmp"  # the parts as one file
        self.assembled = self.folder / "assembled"  # exists when the output is whole and is about to get its name
        self.suffix = ".complete" if is_png else ".mkv"

    def known(self) -> tuple[Film, dict[str, Any]] | None:
        """Returns the film whose parts are here, and the record of its calls; None where there are none."""
        if not self.manifest.is_file():
            return None
        remove_unfinished(self.folder)
        record = json.loads(self.manifest.read_text(encoding="utf-8"))
        return from_record(record["film"]), record["calls"]

    def begin(self, film: Film, calls: Mapping[str, Any]) -> None:
        """Records the settings, the film and the sizes of the network's calls; notes work with other settings."""
        others = sorted(self.root.glob("*/manifest.json"), key=lambda file: file.stat().st_mtime)
        if others:
            before = json.loads(others[-1].read_text(encoding="utf-8"))["settings"]
            changed = [f"{k}: {before.get(k)} → {v}" for k, v in self.settings.items() if before.get(k) != v]
            text = "'%s' holds work with other settings (%s), kept until the output is complete: starting anew"
            logger.info(text, self.root, ", ".join(changed))
        record = {"settings": self.settings, "film": to_record(film), "calls": calls}
        write_text_atomically(self.manifest, json.dumps(record))

    def part(self, frames: range) -> Path:
        """Returns the file of a part, or the mark that its frames are complete; it exists when the part is finished."""
        return self.folder / f"{frames.start:08d}-{frames.stop - 1:08d}{self.suffix}"

    def is_named(self) -> bool:
        """Returns whether the output has its name: the process was killed between that and removing the parts."""
        return self.assembled.is_file() and not self.whole.exists() and not any(self.frames.glob("*.png"))

    def remove(self) -> None:
        """Removes the parts of an output that is complete, with those of other settings."""
        shutil.rmtree(self.root, ignore_errors=True)


class Target(NamedTuple):
    """What is written.

    Args:
        out: the file, or the folder of PNG files.
        suffix: of the container, ".mkv".
        size: of the frames.
        encoding: None writes PNG files.
        names: names the PNG file of a frame.
    """

    out: Path
    suffix: str
    size: Size
    encoding: Encoding | None
    names: Callable[[int], str]


class Queue:
    """Calls functions in order in a thread of its own; at most ``size`` wait. Errors are raised by a later call."""

    def __init__(self, size: int) -> None:
        self._size, self._waiting = size, deque[Future[None]]()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> "Queue":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def put(self, call: Callable[..., None], *arguments: Any) -> None:
        """Adds a call; waits while there are too many."""
        self._waiting.append(self._pool.submit(call, *arguments))
        self.wait(self._size)

    def wait(self, left: int = 0) -> None:
        """Waits until only so many calls are left."""
        while len(self._waiting) > left:
            self._waiting.popleft().result()


class PartWriter:
    """Writes frames in order into the parts of a work folder; a part gets its name when it is complete."""

    def __init__(self, work: Work, target: Target, parts: Iterable[range]) -> None:
        self.work, self.target = work, target
        self._parts = iter(parts)
        self._part = range(0)
        self._stack = ExitStack()
        self._encoder: Encoder | None = None

    def write(self, number: int, pixels: np.ndarray) -> None:
        """Writes a frame, (h, w, 3) RGB; ``number`` is its index in the film."""
        if number not in self._part:
            self._part = next(self._parts)
            if self.target.encoding is not None:
                self._encoder = self._stack.enter_context(encoder(str(self._unfinished()), self.target.encoding))
        if self._encoder is None:
            write_png(self.work.frames / f"{self.target.names(number)}.png", pixels)
        else:
            self._encoder.write(pixels)
        if number == self._part.stop - 1:
            self._complete()

    def close(self) -> None:
        """Gives up a part that is not complete."""
        if self._encoder is not None:
            self._encoder.give_up()
        self._stack.close()
        if self._part:
            self._unfinished().unlink(missing_ok=True)

    def _complete(self) -> None:
        self._stack.close()
        file = self._unfinished()
        if self._encoder is None:
            file.touch()
        else:
            with av.open(str(file)) as part:
                count = sum(packet.size > 0 for packet in part.demux(video=0))
            if count != len(self._part):
                raise UserError(f"'{file}' holds {count} of {len(self._part)} frames: is the disk full?")
        sync(file)
        file.replace(self.work.part(self._part))
        sync(self.work.folder)
        self._encoder, self._part = None, range(0)

    def _unfinished(self) -> Path:
        final = self.work.part(self._part)
        return final.with_name(f".{final.name}.tmp")
