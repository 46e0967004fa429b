"""Lists of clips for training, validation and tests: train_list.csv, val_list.csv, test_list.csv.

    clip,video,subject,action,trial,camera,start,end,num_frames,fps,width,height
    S1_Box_1_(C1),video/S1/Box_1_(C1).avi,S1,Box,1,C1,0,,827,60,640,480

Only ``clip`` is required. A list without a header has the name of a clip, or the path of its video, on each line.
"""

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from vsr.data.lists.meta_info import without_comment
from vsr.registry import did_you_mean

LIST_NAMES = ("train_list.csv", "val_list.csv", "test_list.csv")
_VIDEO = re.compile(r".+\.(avi|mp4|mov|mkv|mpe?g|m4v|webm|ts|m2?ts|wmv|flv|3gp|y4m|vob|ogv|mxf|asf)", re.IGNORECASE)
_VIDEO_FOLDERS = ("video", "Charades_v1_480")  # a clip is named after its video's path below these
_HUMANEVA_NAME = re.compile(r"(S\d+)_([^_]+)_(\d+)_\((\w+)\)")  # subject, action, trial, camera


class ClipEntry(NamedTuple):
    """One line of a list; missing cells are empty or None."""

    clip: str  # the folder of its frames
    video: str = ""
    subject: str = ""
    action: str = ""
    trial: str = ""
    camera: str = ""
    start: int = 0  # first frame that is used; position in the clip, independent of the number in its name
    end: int | None = None  # exclusive; None is the clip's end
    num_frames: int | None = None  # of the whole clip
    fps: float | None = None
    width: int | None = None
    height: int | None = None


_NUMBERS = {"start": int, "end": int, "num_frames": int, "fps": float, "width": int, "height": int}


def read_clip_list(path: str | Path) -> list[ClipEntry]:
    """Returns the entries of a list, in its order. Empty lines and comments, which begin with #, are skipped.

    An entry that is listed several times counts as often.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is malformed (it is named), two different entries share frames of a clip, or there are none.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_file():
        writers = "scripts/prepare_humaneva.py and scripts/prepare_charades.py write it"
        raise FileNotFoundError(f"list_file '{path}' does not exist; {writers}; one clip name per line is enough")
    entries: list[ClipEntry] = []
    line = 1
    try:
        whole = re.sub(r"(?m)^[ \t]*#.*$", "", path.read_text(encoding="utf-8-sig"))  # comments leave empty lines
        text = whole.lstrip()
        skipped = whole[: len(whole) - len(text)].count("\n")
        first = next(csv.reader([text.partition("\n")[0]], strict=True, skipinitialspace=True), [])
        has_header = len(first) > 1 or [cell.strip().lower() for cell in first] == ["clip"]
        columns, table = None if has_header else ["clip"], io.StringIO(text, newline="")
        rows = csv.DictReader(table, columns, "", strict=True, skipinitialspace=True)
        if has_header:
            rows.fieldnames = _checked_header(rows.fieldnames or [], f"{path}, line {1 + skipped}")
        for row in rows:
            line = rows.line_num + skipped
            if not has_header:
                row["clip"] = without_comment(row["clip"])
            if any(cell and str(cell).strip() for cell in row.values()):
                entries.append(_entry(row, f"{path}, line {line}"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8: {error}") from None
    except csv.Error as error:
        raise ValueError(f"{path}, after line {line}: {error}; only cells with commas need quotes") from None
    if not entries:
        raise ValueError(f"{path} lists no clips")
    check_disjoint({str(path): entries})
    return entries


def read_beside(path: str | Path) -> list[ClipEntry]:
    """Returns a list's entries; raises ``ValueError`` if the train, val and test lists of its folder share frames."""
    path = Path(os.path.expanduser(path))
    entries = read_clip_list(path)
    siblings = [path.with_name(name) for name in LIST_NAMES if path.name in LIST_NAMES and name != path.name]
    check_disjoint({str(path): entries} | {str(file): read_clip_list(file) for file in siblings if file.is_file()})
    return entries


def check_disjoint(lists: Mapping[str, list[ClipEntry]]) -> None:
    """Raises ``ValueError`` if two entries share frames, since a network must not be tested on its training frames.

    Args:
        lists: entries by the name of their list; ranges of one clip may be in several lists if they do not overlap.
    """
    ranges: dict[str, list[tuple[int, float, str]]] = defaultdict(list)
    for name, entries in lists.items():
        for entry in dict.fromkeys(entries):
            ranges[entry.clip].append((entry.start, float("inf") if entry.end is None else entry.end, name))
    for clip, parts in ranges.items():
        parts.sort()
        for (_, end, first), (start, _, second) in pairwise(parts):
            if start < end:
                where = f"twice in '{first}'" if first == second else f"in '{first}' and in '{second}'"
                remedy = "leave it in one, or give the entries start and end (exclusive) that do not overlap"
                raise ValueError(f"clip '{clip}' is {where}, with frames in common from {start} on; {remedy}")


def clip_of_video(video: str) -> str:
    """Returns the name of a video's clip: its path below the video folder, joined by underscores.

    ``video/S1/Box_1_(C1).avi`` and the official ``S1/Image_Data/Box_1_(C1).avi`` are S1_Box_1_(C1);
    ``Charades_v1_480/0A8CF.mp4`` is 0A8CF. Of a path outside a video folder, the last two parts count.
    """
    path = PurePosixPath(video.replace("\\", "/"))
    parts = [*(part for part in path.parts[:-1] if part not in ("/", ".", "..", "Image_Data")), path.stem]
    below = next((index + 1 for index in range(len(parts) - 1)[::-1] if parts[index] in _VIDEO_FOLDERS), len(parts) - 2)
    return "_".join(parts[max(below, 0) :])


def is_video(name: str) -> bool:
    """Returns whether a file name ends like a video's."""
    return _VIDEO.fullmatch(PurePosixPath(name).name) is not None


def entry_of(clip: str, video: str = "") -> ClipEntry:
    """Returns the entry of a clip; HumanEva's names hold subject, action, trial and camera."""
    match = _HUMANEVA_NAME.fullmatch(clip)
    subject, action, trial, camera = match.groups() if match else ("",) * 4
    return ClipEntry(clip, video, subject, action, trial, camera)


def _checked_header(cells: Iterable[str], place: str) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    for name in header:
        if name not in ClipEntry._fields:
            known = f"{did_you_mean(name, ClipEntry._fields)}; known: {', '.join(ClipEntry._fields)}"
            remedy = "In a list without a header, put a name with a comma in quotes"
            raise ValueError(f"{place}: unknown column '{name}'{known}. {remedy}")
    if "clip" not in header:
        raise ValueError(f"{place}: the header lacks the column 'clip', the name of the folder of a clip's frames")
    if len(set(header)) < len(header):
        raise ValueError(f"{place}: a column appears twice")
    return header


def _entry(row: dict[str, Any], place: str) -> ClipEntry:
    """Returns the entry of a row; surplus cells are under the key ""."""
    if "" in row:
        raise ValueError(f"{place}: more cells than the {len(row) - 1} columns; put a name with a comma in quotes")
    given = {column: cell.strip() for column, cell in row.items() if cell and cell.strip()}
    clip = given.pop("clip", "")
    if is_video(clip):
        given.setdefault("video", clip)
        clip = clip_of_video(clip)
    if ";" in clip or "\t" in clip:
        raise ValueError(f"{place}: cells are separated by commas, got '{clip[:80]}'")
    if not clip or clip.startswith("/") or {"..", "."} & set(clip.split("/")) or "\0" in clip:
        raise ValueError(f"{place}: '{clip}' cannot be the name of a clip's folder")
    numbers = {column: _number(column, given[column], place) for column in _NUMBERS if column in given}
    entry = entry_of(clip)._replace(**{**given, **numbers})
    if entry.end is not None and entry.end <= entry.start:
        raise ValueError(f"{place}: end {entry.end} is not after start {entry.start}; end is exclusive")
    return entry


def _number(column: str, cell: str, place: str) -> int | float:
    kind = _NUMBERS[column]
    pattern = r"\d+" if kind is int else r"\d+(\.\d*)?([eE][+-]?\d+)?"
    if not re.fullmatch(pattern, cell, re.ASCII):
        raise ValueError(f"{place}: {column} '{cell}' is not a {'whole ' if kind is int else ''}number of at least 0")
    return kind(cell)
