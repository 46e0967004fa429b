"""Frames from which a crop is read without reading the rest: cut into tiles, plain (`raw`) or compressed (`tiles`).

A packed frame is self-describing: a header, then the tiles in reading order; edge tiles are filled up by repeating the
last row and column. Plain tiles follow one another; compressed ones are preceded by their offsets.

A compressed tile is a raw deflate stream of prediction errors: blue and red minus green, then each value minus
(left + above - above left), wrapping at 256. Its inverse is two running sums, which numpy does for all tiles of a crop
at once. On 720p film it takes half the bytes of a PNG, which does not use the correlation of colours.
"""

import struct
import zlib
from importlib.util import find_spec
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

if find_spec("zlib_ng"):  # the same bytes, a third faster: four fifths of decoding a PNG, half of reading a tile
    from zlib_ng import zlib_ng as inflater
else:
    import zlib as inflater

Form = Literal["raw", "tiles"]
MAGIC = b"vsr1"
_HEADER = struct.Struct("<4sBBxxHHI")  # magic, form, tile size, height, width, checksum of the pixels
HEADER_BYTES = _HEADER.size
_FORMS: tuple[Form, ...] = ("raw", "tiles")
# Of 16, 32, 64 and 128, 32 reads a 256 x 256 crop fastest in both forms: docs/data.md.
TILE_SIZE = 32


class PackedFrame(NamedTuple):
    """The header of a packed frame."""

    form: Form
    tile_size: int
    height: int
    width: int
    checksum: int

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-self.height // self.tile_size), -(-self.width // self.tile_size)


def pack_frame(pixels: np.ndarray, form: Form, tile_size: int = TILE_SIZE) -> bytes:
    """Returns a frame (h, w, 3) uint8 in packed form."""
    h, w, _ = pixels.shape
    header = _HEADER.pack(MAGIC, _FORMS.index(form), tile_size, h, w, zlib.crc32(np.ascontiguousarray(pixels).data))
    padded = np.pad(pixels, ((0, -h % tile_size), (0, -w % tile_size), (0, 0)), mode="edge")
    rows, columns = padded.shape[0] // tile_size, padded.shape[1] // tile_size
    tiles = padded.reshape(rows, tile_size, columns, tile_size, 3).swapaxes(1, 2)  # (rows, columns, y, x, 3)
    if form == "raw":
        return header + tiles.tobytes()
    streams = [_deflate(tile) for tile in _errors(tiles.reshape(-1, tile_size, tile_size, 3))]
    offsets = np.cumsum([0, *map(len, streams)], dtype="<u4")
    return b"".join([header, offsets.tobytes(), *streams])


def read_header(data: bytes | memoryview) -> PackedFrame:
    """Returns the header of a packed frame, from its first ``HEADER_BYTES``; raises ``ValueError`` if it is damaged."""
    if data[:4] != MAGIC or len(data) < HEADER_BYTES:
        raise ValueError(f"{len(data)} bytes are no packed frame")
    _, form, tile_size, height, width, checksum = _HEADER.unpack(data[:HEADER_BYTES])
    if form >= len(_FORMS) or 0 in (tile_size, height, width):
        raise ValueError(f"its header says form {form}, tiles of {tile_size} and a size of {height} x {width}")
    return PackedFrame(_FORMS[form], tile_size, height, width, checksum)


def unpack_frame(
    data: bytes | memoryview, frame: PackedFrame, top: int, left: int, height: int, width: int
) -> np.ndarray:
    """Returns a rectangle (height, width, 3) inside a packed frame, reading only the tiles it touches.

    Raises:
        ValueError: the data is damaged.
    """
    size = frame.tile_size
    first_row, last_row = top // size, (top + height - 1) // size + 1
    first_column, last_column = left // size, (left + width - 1) // size + 1
    if frame.form == "raw":
        tiles = np.frombuffer(data, np.uint8, offset=HEADER_BYTES).reshape(*frame.grid, size, size, 3)
        tiles = tiles[first_row:last_row, first_column:last_column]
    else:
        tiles = _inflate(data, frame, range(first_row, last_row), range(first_column, last_column))
    rows, columns = tiles.shape[:2]
    pixels = tiles.swapaxes(1, 2).reshape(rows * size, columns * size, 3)
    top, left = top - first_row * size, left - first_column * size
    return pixels[top : top + height, left : left + width].copy()  # never a view of the memory map


def _errors(tiles: np.ndarray) -> np.ndarray:
    """Returns the prediction errors (n, 3, y, x) of tiles (n, y, x, 3)."""
    errors = np.ascontiguousarray(np.moveaxis(tiles, -1, 1))
    errors[:, ::2] -= errors[:, 1:2]
    errors[..., 1:, :] -= errors[..., :-1, :].copy()
    errors[..., 1:] -= errors[..., :-1].copy()
    return errors


def _deflate(errors: np.ndarray) -> bytes:
    # Run-length matching: 3 times as fast as the default strategy, and smaller, since errors hardly repeat otherwise.
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
    return compressor.compress(errors.tobytes()) + compressor.flush()


def _inflate(data: bytes | memoryview, frame: PackedFrame, rows: range, columns: range) -> np.ndarray:
    """Returns tiles (rows, columns, y, x, 3); a view."""
    size, (grid_h, grid_w) = frame.tile_size, frame.grid
    offsets = np.frombuffer(data, "<u4", count=grid_h * grid_w + 1, offset=HEADER_BYTES)
    start = HEADER_BYTES + offsets.nbytes
    streams = []
    try:
        for row in rows:
            first = row * grid_w
            edges = (offsets[first + columns.start : first + columns.stop + 1] + start).tolist()
            streams += [inflater.decompress(data[a:b], -15, size * size * 3) for a, b in pairwise(edges)]
        tiles = np.frombuffer(bytearray(b"".join(streams)), np.uint8).reshape(-1, 3, size, size)
    except (inflater.error, ValueError) as error:  # pyright: ignore[reportGeneralTypeIssues]  # either library
        raise ValueError(f"damaged tiles ({error})") from None
    for y in range(1, size):
        tiles[:, :, y] += tiles[:, :, y - 1]
    for x in range(1, size):
        tiles[..., x] += tiles[..., x - 1]
    tiles[:, ::2] += tiles[:, 1:2]
    return np.moveaxis(tiles, 1, -1).reshape(len(rows), len(columns), size, size, 3)
