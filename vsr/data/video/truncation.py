"""Finds files that end before their container says, by the sizes that it names."""

from pathlib import Path
from typing import BinaryIO

BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")  # that MP4 and MOV files begin with
MATROSKA = b"\x1aE\xdf\xa3"
TS_PACKET, TS_SYNC = 188, 0x47


def missing_bytes(video: Path) -> int:
    """Returns how many bytes a file of MP4, MOV, Matroska, WebM, AVI or MPEG-TS lacks at its end.

    It is 0 where the container names no size, as in a live recording, and of other containers.
    """
    size = video.stat().st_size
    with video.open("rb") as file:
        start = file.read(TS_PACKET + 1)
        if start[4:8] in BOXES:
            return _after_boxes(file, size)
        if start[:4] == MATROSKA:
            return _after_segment(file, size)
        if start[:4] == b"RIFF":
            return _after_chunks(file, size)
    is_ts = len(start) > TS_PACKET and start[0] == start[TS_PACKET] == TS_SYNC
    return -size % TS_PACKET if is_ts else 0


def _after_boxes(file: BinaryIO, size: int) -> int:
    """ISO/IEC 14496-12, 4.2: a box is its length of 32 bits, its name and, if the former is 1, its length of 64."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        length = int.from_bytes(head[8:], "big") if length == 1 else length
        if length < 8:  # 0: to the end
            return 0
        position += length
    return max(position - size, 0)


def _after_chunks(file: BinaryIO, size: int) -> int:
    """AVI: RIFF chunks, one after another, of even length."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):
            return 0
        position += 8 + length
    return max(position - size, 0)


def _after_segment(file: BinaryIO, size: int) -> int:
    """RFC 8794: an element is its identifier, its length and its content; a film is a header and one segment."""
    file.seek(4)
    header = _length(file)
    if header is None:
        return 0
    file.seek(header, 1)
    segment = _length(file) if file.read(4) == b"\x18S\x80g" else None
    return max(file.tell() + segment - size, 0) if segment is not None else 0


def _length(file: BinaryIO) -> int | None:
    """Returns an element's length; None where it is unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    number = int.from_bytes(first + file.read(more), "big") & ((1 << 7 * (more + 1)) - 1)
    return None if number == (1 << 7 * (more + 1)) - 1 else number
