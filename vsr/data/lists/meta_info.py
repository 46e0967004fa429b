"""Reads and writes BasicSR's meta files: one line ``CLIP FRAMES (HEIGHT,WIDTH,CHANNELS)`` per clip."""

import os
import re
from pathlib import Path
from typing import NamedTuple

SHIPPED = Path(__file__).parents[3] / "meta_info"  # lists of REDS's clips
_LINE = re.compile(
    r"(?P<name>\S+)(\s+(?P<frames>\d+)(\s+\((?P<shape>\s*\d+\s*(,\s*\d+\s*){1,2})\))?(\s+(?P<start>\d+))?)?"
)


class ClipInfo(NamedTuple):
    """One line of a meta file."""

    name: str
    num_frames: int | None = None  # frames that are used, the clip's first or those from ``start`` on; None is all
    shape: tuple[int, ...] | None = None  # (h, w, c) of a GT frame
    start: int = 0  # number in the first frame's name; KAIR's fourth column

    def line(self) -> str:
        """Returns the line BasicSR's files hold, no line end; KAIR's fourth column where that is not 0."""
        shape = f" ({','.join(map(str, self.shape))})" if self.shape else ""
        start = f" {self.start}" if self.start else ""
        return f"{self.name} {self.num_frames}{shape}{start}"


def without_comment(line: str) -> str:
    """Returns a line of a list without blanks around it and without a comment, which begins with # after a blank."""
    return re.sub(r"(^|\s)#.*", "", line.strip()).strip()


def read_meta_info(path: str | Path) -> list[ClipInfo]:
    """Returns the clips of a meta file, in its order. Empty lines and comments are skipped; a name alone is a line.

    A clip may be listed several times: training then draws it as often.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is malformed (it is named), or the file lists nothing.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_file():
        remedy = "`python scripts/generate_meta_info.py --from FOLDER --to FILE` lists the clips of a folder"
        if (SHIPPED / path.name).is_file():
            remedy = f"the project has it as {SHIPPED / path.name}"
        raise FileNotFoundError(f"meta_info_file '{path}' does not exist; {remedy}")
    clips = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        if not (text := without_comment(line)):
            continue
        match = _LINE.fullmatch(text)
        if match is None or int(match["frames"] or 1) < 1 or (not match["frames"] and "," in match["name"]):
            expected = "'CLIP FRAMES (HEIGHT,WIDTH,CHANNELS)' like '000 100 (720,1280,3)', or 'CLIP'"
            raise ValueError(f"{path}, line {number}: expected {expected}, got '{text[:80]}'")
        shape = tuple(int(length) for length in match["shape"].split(",")) if match["shape"] else None
        frames = int(match["frames"]) if match["frames"] else None
        clips.append(ClipInfo(match["name"], frames, shape, int(match["start"] or 0)))
    if not clips:
        raise ValueError(f"{path} lists no clips")
    return clips


def read_text(path: Path) -> str:
    """Returns the text of a file; raises ``ValueError`` where it is not in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8: {error}") from None


def listed_frames(clip: ClipInfo, frames: list[str], root: Path) -> list[str]:
    """Returns the frames that a line lists: from the one whose name ends in its ``start`` on, or the first.

    ``frames`` are all frames of the clip, in order; ``root`` is their data root, for messages.

    Raises:
        ValueError: there are too few, or none of that number.
    """
    from_start = ""
    if clip.start and frames:
        numbers = [int(digits[0]) if (digits := re.search(r"[0-9]+$", frame)) else None for frame in frames]
        if clip.start not in numbers:
            found = f"has no frame {clip.start} in '{root}' ({frames[0]} to {frames[-1]})"
            remedy = "without a fourth column it takes the first frames"
            raise ValueError(f"clip '{clip.name}' {found}, but the meta file starts there; {remedy}")
        frames, from_start = frames[numbers.index(clip.start) :], f" from number {clip.start} on"
    if len(frames) < (clip.num_frames or 0):
        found = f"has {len(frames)} frames{from_start} in '{root}'"
        raise ValueError(f"clip '{clip.name}' {found}, but the meta file lists {clip.num_frames}")
    return frames[: clip.num_frames]
