"""Encoded frames to pixels: PNG, JPEG, … and the packed form, whole or only a crop."""

import struct
import zlib

import cv2
import numpy as np
from PIL import Image

from vsr.data.sources import packs
from vsr.data.sources.inflate import inflater
from vsr.data.stream.augment import Crop

_PNG_START = b"\x89PNG\r\n\x1a\n"
_END_MARKS = {_PNG_START: b"IEND\xaeB`\x82", b"\xff\xd8": b"\xff\xd9"}  # of PNG and JPEG, by how they start
SIZE_BYTES = 24  # how much of a file `image_size` needs

_AGAIN = "copy it again, or remove its folder and prepare the clip again"
_PIECE = 1 << 14  # bytes inflated at a time: what comes out stays in the processor's cache


def decode(data: bytes | memoryview, source: str, crop: Crop | None = None) -> np.ndarray:
    """Returns the (h, w, 3) uint8 RGB pixels of an encoded or packed frame, or a rectangle of them.

    Args:
        data: the bytes of a PNG, JPEG, … or a packed frame.
        source: what the bytes are, for messages.
        crop: the rectangle. Of a packed frame only its tiles are read, of a PNG the rows down to its last.
            Without it, a packed frame's pixels are compared with their checksum.

    Raises:
        ValueError: the image is empty, truncated, damaged or no image, or the crop does not fit it.
    """
    if len(data) == 0:
        raise ValueError(f"{source} is empty (0 bytes); {_AGAIN}")
    try:
        packed = packs.read_header(data)
    except ValueError as error:
        raise ValueError(f"{source} is damaged: {error}; pack it again") from None
    if packed is not None:
        rectangle = crop or Crop(0, 0, packed.height, packed.width)
        _check_inside(rectangle, packed.height, packed.width, source)
        try:
            pixels = packs.unpack_frame(data, packed, *rectangle[:4])
        except ValueError as error:
            raise ValueError(f"{source} is damaged: {error}; pack it again") from None
        if crop is None and zlib.crc32(pixels.data) != packed.checksum:
            raise ValueError(f"{source} is damaged: not the pixels that were packed; pack it again")
        return pixels
    for start, end in _END_MARKS.items():
        # Older OpenCV decodes what is there and leaves the rest of the frame black or grey.
        if bytes(data[: len(start)]) == start and end not in bytes(data[-64:]) and end not in bytes(data):
            raise ValueError(f"{source} is truncated: the image ends after {len(data)} bytes; {_AGAIN}")
    part = None if crop is None else _decode_part_of_png(data, crop)
    if part is not None:
        return part
    try:
        # turning frames as a camera was held would not do to crops, nor to the sizes in a header
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # a size that no image has
        pixels = None
    if pixels is None:
        raise ValueError(f"{source} cannot be decoded: {len(data)} bytes that are not a readable image; {_AGAIN}")
    return cv2.cvtColor(cut(pixels, crop, source), cv2.COLOR_BGR2RGB)


def image_size(start: bytes) -> tuple[int, int] | None:
    """Returns height and width from the first ``SIZE_BYTES`` of a PNG or a packed frame; None if they are neither's."""
    packed = packs.read_header(start)
    if packed is not None:
        return packed.height, packed.width
    if len(start) < SIZE_BYTES or not start.startswith(_PNG_START):
        return None
    w, h = struct.unpack(">II", start[16:24])
    return h, w


def _check_inside(crop: Crop, h: int, w: int, source: str) -> None:
    if crop.fits(h, w):
        return
    reason = f"too small for {crop}"
    if crop.frame_size not in (None, (h, w)):
        reason = f"not {crop.frame_size[0]} x {crop.frame_size[1]} as the others"
    raise ValueError(f"{source} is {h} x {w}, {reason}; all frames of a clip must have one size")


def cut(pixels: np.ndarray, crop: Crop | None, source: str) -> np.ndarray:
    """Returns the rectangle of a frame; all of it without one."""
    if crop is None:
        return pixels
    h, w, _ = pixels.shape
    _check_inside(crop, h, w, source)
    return pixels[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]


def _decode_part_of_png(data: bytes | memoryview, crop: Crop) -> np.ndarray | None:
    """Returns a rectangle of an 8-bit RGB PNG, or None where that is not possible.

    Inflating, four fifths of decoding a PNG, goes from top to bottom: it ends with the crop's last row. Filters look
    left and up, and only left in a row of filter 0 or 1: what Pillow has to undo reaches from the last such row above
    the crop's first down to its last, and from the left edge to the crop's right one.
    """
    # Signature, then the header: length, "IHDR", width, height, depth, colour type (2: RGB), …, interlacing, checksum.
    if bytes(data[:8]) != _PNG_START or bytes(data[24:29]) != b"\x08\x02\x00\x00\x00":
        return None
    w, h = struct.unpack(">II", data[16:24])
    if not crop.fits(h, w):
        return None
    bottom, right = crop.top + crop.height, crop.left + crop.width
    row_bytes = 1 + 3 * w  # the filter, then the pixels
    inflated = _inflate_png(data, bottom * row_bytes)
    if inflated is None:
        return None  # the whole decoder words the complaint
    rows = np.frombuffer(inflated, np.uint8, bottom * row_bytes).reshape(bottom, row_bytes)
    looking_left = np.flatnonzero(rows[: crop.top + 1, 0] <= 1)
    first = int(looking_left[-1]) if len(looking_left) else 0
    filtered = zlib.compress(rows[first:, : 1 + 3 * right].tobytes(), 0)  # not compressed, but as a stream
    try:
        image = Image.frombytes("RGB", (right, bottom - first), filtered, "zip", "RGB")
    except ValueError:
        return None  # a filter that does not exist
    return np.array(image.crop((crop.left, crop.top - first, right, bottom - first)))


def _inflate_png(data: bytes | memoryview, num_bytes: int) -> bytes | None:
    """Returns at least the first ``num_bytes`` of a PNG's filtered rows; None if a checksum anywhere in it is wrong."""
    data = memoryview(data)
    stream, inflated, length = inflater.decompressobj(), [], 0
    start = 8
    while start + 12 <= len(data):  # a chunk: length, kind, body, checksum
        end = start + 8 + int.from_bytes(data[start : start + 4], "big")
        if inflater.crc32(data[start + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return None
        pieces = range(start + 8, end, _PIECE) if data[start + 4 : start + 8] == b"IDAT" else ()
        for piece in pieces:
            if length >= num_bytes:
                break
            try:
                inflated.append(stream.decompress(data[piece : min(piece + _PIECE, end)]))
            except inflater.error:
                return None
            length += len(inflated[-1])
        start = end + 4
    return b"".join(inflated) if length >= num_bytes else None
