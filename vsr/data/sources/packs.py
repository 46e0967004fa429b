"""Frames from which a crop is read without reading the rest: cut into tiles, plain (`raw`) or compressed (`tiles`).

A packed frame is self-describing: a header, then the tiles in reading order; edge tiles are filled up by repeating the
last row and column. Plain tiles follow one another; compressed ones are preceded by their offsets.

A compressed tile is a raw deflate stream of prediction errors: blue and red minus green, then each value minus
(left + above - above left), wrapping at 256. Its inverse is two running sums, which numpy does for all tiles of a crop
at once. On 720p film it takes half the bytes of a PNG, which does not use the correlation of colours.
"""

import struct
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
HEADER = struct.Struct("<4sBBxxHHI")  # magic, form, tile size, height, width, checksum of the pixels
HEADER_BYTES = HEADER.size
FORMS: tuple[Form, ...] = ("raw", "tiles")
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


def read_header(data: bytes | memoryview) -> PackedFrame:
    """Returns the header, from the first ``HEADER_BYTES`` of a packed frame; raises ``ValueError`` if damaged."""
    if data[:4] != MAGIC or len(data) < HEADER_BYTES:
        raise ValueError(f"{len(data)} bytes are no packed frame")
    _, form, tile_size, height, width, checksum = HEADER.unpack(data[:HEADER_BYTES])
    if form >= len(FORMS) or 0 in (tile_size, height, width):
        raise ValueError(f"its header says form {form}, tiles of {tile_size} and a size of {height} x {width}")
    return PackedFrame(FORMS[form], tile_size, height, width, checksum)


def unpack_frame(
    data: bytes | memoryview, frame: PackedFrame, top: int, left: int, height: int, width: int
) -> np.ndarray:
    """Returns a rectangle (height, width, 3) of a packed frame; raises ``ValueError`` if its tiles are damaged."""
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
