"""Encoded frames to pixels: PNG, JPEG, … and the packed form, whole or only a crop."""

import struct
import zlib
from io import BytesIO
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from vsr.data.sources import packs
from vsr.data.sources.base import Crop
from vsr.data.sources.packs import inflater

_PNG_START = b"\x89PNG\r\n\x1a\n"
_END_MARKS = {_PNG_START: b"IEND\xaeB`\x82", b"\xff\xd8": b"\xff\xd9"}  # of PNG and JPEG, by how they start
_PLAIN_RGB = b"\x08\x02\x00\x00\x00"  # in a PNG's header: 8 bits, RGB, deflate, adaptive filters, not interlaced
SIZE_BYTES = 24  # of a file, for `image_size`

_AGAIN = "copy it again, or remove its folder and prepare the clip again"
_PIECE = 1 << 14  # bytes inflated at a time: the result stays in the processor's cache


def decode(data: bytes | memoryview, source: str, crop: Crop | None = None, keeps_depth: bool = False) -> np.ndarray:
    """Returns the (h, w, 3) uint8 RGB pixels of an encoded or packed frame, or a rectangle of them.

    Of a packed frame, only the tiles of the rectangle are read; without one, the pixels are compared with their
    checksum. ``source`` is the file's name or key, for messages. With ``keeps_depth``, pixels of 16 bits are uint16;
    without it, their lower 8 bits are dropped.

    Raises:
        ValueError: the image is empty, truncated, damaged or no image, or the crop does not fit it.
    """
    if len(data) == 0:
        raise ValueError(f"{source} is empty (0 bytes); {_AGAIN}")
    if data[:4] == packs.MAGIC:
        return _decode_pack(data, source, crop)
    for start, end in _END_MARKS.items():
        # Older versions of OpenCV decode a truncated image and leave the rest of the frame black or grey.
        if data[: len(start)] == start and end not in bytes(data[-64:]) and end not in bytes(data):
            raise ValueError(f"{source} is truncated: the image ends after {len(data)} bytes; {_AGAIN}")
    if (pixels := _first_of_animation(data)) is not None:
        return cut(pixels, crop, source)
    # Crops and the sizes in headers do not follow a camera's orientation. OpenCV would clip the values of HDR and PFM.
    is_float = bytes(data[:2]) in (b"#?", b"PF", b"Pf")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION | (cv2.IMREAD_ANYDEPTH if keeps_depth else 0)
    pixels = None if is_float else _imdecode(data, flags)
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        if (raw := _imdecode(data, cv2.IMREAD_UNCHANGED)) is not None:
            remedy = "frames have 8 or 16 bits per value: convert it, to PNG for example"
            raise ValueError(f"{source} cannot be decoded: it is an image of {raw.dtype} values; {remedy}")
        raise ValueError(f"{source} cannot be decoded: {len(data)} bytes that are not a readable image; {_AGAIN}")
    return cv2.cvtColor(cut(pixels, crop, source), cv2.COLOR_BGR2RGB)


def _imdecode(data: bytes | memoryview, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # an impossible size
        return None


def _first_of_animation(data: bytes | memoryview) -> np.ndarray | None:
    """Returns the first frame of a PNG whose default image is not part of its animation; OpenCV < 4.11 reads that."""
    head = bytes(data[: 1 << 16]).partition(b"IDAT")[0]
    if not head.startswith(_PNG_START) or b"acTL" not in head or b"fcTL" in head:
        return None
    try:
        with Image.open(BytesIO(data)) as image:
            image.seek(1)
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError):  # damaged
        return None


def image_size(start: bytes) -> tuple[int, int] | None:
    """Returns height and width from the first ``SIZE_BYTES`` of a PNG or a packed frame; None for other files."""
    if start[:4] == packs.MAGIC:
        packed = packs.read_header(start)
        return packed.height, packed.width
    if len(start) < SIZE_BYTES or not start.startswith(_PNG_START):
        return None
    w, h = struct.unpack(">II", start[16:24])
    return h, w


def size_of(file: BinaryIO) -> tuple[int, int] | None:
    """Returns height and width from the header of an image or a packed frame; None where it has none that is known."""
    if (size := image_size(file.read(SIZE_BYTES))) is not None:
        return size
    try:
        file.seek(0)
        with Image.open(file) as image:
            return image.height, image.width
    except (OSError, ValueError, SyntaxError):
        return None


def cut(pixels: np.ndarray, crop: Crop | None, source: str) -> np.ndarray:
    """Returns the rectangle of a frame; all of it without one."""
    if crop is None:
        return pixels
    h, w, _ = pixels.shape
    if not crop.fits(h, w):
        raise _misfit(crop, h, w, source)
    return pixels[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]


def _misfit(crop: Crop, h: int, w: int, source: str) -> ValueError:
    others = crop.frame_size
    reason = f"too small for {crop}" if others in (None, (h, w)) else f"not {others[0]} x {others[1]} as the others"
    return ValueError(f"{source} is {h} x {w}, {reason}; all frames of a clip must have one size")


def _decode_pack(data: bytes | memoryview, source: str, crop: Crop | None) -> np.ndarray:
    try:
        packed = packs.read_header(data)
        rectangle = crop or Crop(0, 0, packed.height, packed.width)
        if rectangle.fits(packed.height, packed.width):
            pixels = packs.unpack_frame(data, packed, *rectangle[:4])
            if crop is None and zlib.crc32(pixels.data) != packed.checksum:
                raise ValueError("its pixels differ from the packed ones")
            return pixels
    except ValueError as error:
        raise ValueError(f"{source} is damaged: {error}; pack it again") from None
    raise _misfit(rectangle, packed.height, packed.width, source)


def png_crop(data: bytes | memoryview, crop: Crop | None) -> np.ndarray | None:
    """Returns the rectangle of an 8-bit RGB PNG, without decoding the rest: (h, w, 3) uint8.

    None means that :func:`decode` has to read the frame, or to say what is wrong with it: for another format, an
    animation (whose first frame may not be the default image), a damaged or truncated file, a crop that does not fit,
    and without a crop.

    Inflating, four fifths of decoding a PNG, goes from top to bottom and ends with the crop's last row. Filters refer
    to the left and upper pixel, and those of type 0 and 1 only to the left. Pillow therefore undoes the filters from
    the last such row above the crop, and from the left edge to the crop's right one.
    """
    if crop is None or data[:8] != _PNG_START or data[24:29] != _PLAIN_RGB:
        return None
    w, h = struct.unpack(">II", data[16:24])
    bottom, right, row_bytes = crop.top + crop.height, crop.left + crop.width, 1 + 3 * w  # the filter, then pixels
    if min(crop.top, crop.left) < 0 or bottom > h or right > w or crop.frame_size not in (None, (h, w)):
        return None
    data, stream, inflated, missing = memoryview(data), inflater.decompressobj(), [], bottom * row_bytes
    start, kind = 8, memoryview(b"")
    while kind != b"IEND":  # a chunk: length, kind, body, checksum
        kind, end = data[start + 4 : start + 8], start + 8 + int.from_bytes(data[start : start + 4], "big")
        is_whole = inflater.crc32(data[start + 4 : end]).to_bytes(4, "big") == data[end : end + 4]
        if kind == b"acTL" or not is_whole:
            return None
        for piece in range(start + 8, end, _PIECE) if kind == b"IDAT" else ():
            if missing <= 0:
                break
            try:
                inflated.append(stream.decompress(data[piece : min(piece + _PIECE, end)]))
            except inflater.error:
                return None
            missing -= len(inflated[-1])
        start = end + 4
    if missing > 0:
        return None
    rows = np.frombuffer(b"".join(inflated), np.uint8, bottom * row_bytes).reshape(bottom, row_bytes)
    looking_left = np.flatnonzero(rows[: crop.top + 1, 0] <= 1)
    first = int(looking_left[-1]) if len(looking_left) else 0
    filtered = zlib.compress(rows[first:, : 1 + 3 * right].tobytes(), 0)  # level 0: only the format, no compression
    try:
        image = Image.frombytes("RGB", (right, bottom - first), filtered, "zip", "RGB")
    except ValueError:
        return None  # an unknown filter
    return np.array(image.crop((crop.left, crop.top - first, right, bottom - first)))
