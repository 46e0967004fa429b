import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from vsr.data import images
from vsr.data.images import decode
from vsr.data.transforms import Crop

FRAME = cv2.resize(skimage.data.coffee(), (800, 500))  # large enough to be read in part
CROPS = (
    Crop(0, 0, 64, 64),
    Crop(10, 33, 100, 90),
    Crop(300, 700, 100, 100),
    Crop(360, 0, 64, 800),
    Crop(436, 736, 64, 64),
)


def png(frame, *settings):
    return cv2.imencode(".png", frame[..., ::-1], list(settings))[1].tobytes()


@pytest.fixture
def parts(monkeypatch):
    """Collects what the decoder of parts returned."""
    results = []
    original = images._decode_part_of_png
    monkeypatch.setattr(images, "_decode_part_of_png", lambda *a: results.append(original(*a)) or results[-1])
    return results


@pytest.mark.parametrize("filters", [8, 16, 32, 64, 128, 248], ids=["none", "sub", "up", "average", "paeth", "all"])
def test_a_crop_of_a_large_png_is_that_part_of_the_frame(parts, filters):
    if not hasattr(cv2, "IMWRITE_PNG_FILTER"):
        pytest.skip("this OpenCV cannot choose the filter")
    data = png(FRAME, cv2.IMWRITE_PNG_COMPRESSION, 6, cv2.IMWRITE_PNG_FILTER, filters)
    for crop in CROPS:
        expected = FRAME[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        np.testing.assert_array_equal(decode(data, "frame", crop), expected)
    # The last reaches so far down that decoding all is as fast.
    assert [part is not None for part in parts] == [True, True, True, True, False]


def test_the_result_can_be_written_to():
    for crop in (CROPS[0], Crop(0, 0, 100, 800), Crop(0, 0, 500, 800)):
        assert decode(png(FRAME), "frame", crop).flags.writeable


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_rows_below_the_crop_are_not_inflated():
    """Below stands what cannot be inflated, with right checksums: only who inflates it sees it."""
    header = struct.pack(">IIBBBBB", 800, 500, 8, 2, 0, 0, 0)
    rows = np.insert(FRAME.reshape(500, 2400), 0, 0, axis=1)  # each row preceded by its filter, none
    stream = zlib.compress(rows.tobytes())
    stream = stream[: len(stream) // 2] + bytes(range(256)) * 100
    data = images._PNG_START + chunk(b"IHDR", header) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode(data, "frame", Crop(0, 0, 64, 64)), FRAME[:64, :64])
    with pytest.raises(ValueError, match="frame cannot be decoded"):
        decode(data, "frame", Crop(400, 0, 64, 64))


@pytest.mark.parametrize("place", [0.2, 0.5, 0.95])
def test_damage_anywhere_is_found_also_below_the_crop(place):
    data = bytearray(png(FRAME))
    data[int(place * len(data))] ^= 255
    with pytest.raises(ValueError, match="frame 5 cannot be decoded"):
        decode(bytes(data), "frame 5", Crop(0, 0, 64, 64))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_other_kinds_of_png_are_decoded_whole(parts, mode):
    image = Image.fromarray(FRAME)
    image = image.convert("L").convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    stream = io.BytesIO()
    image.save(stream, "png")
    expected = cv2.imdecode(np.frombuffer(stream.getvalue(), np.uint8), cv2.IMREAD_COLOR)[5:69, 7:71, ::-1]
    np.testing.assert_array_equal(decode(stream.getvalue(), "frame", Crop(5, 7, 64, 64)), expected)
    assert parts == [None]


@pytest.mark.parametrize("crop", [Crop(-1, 0, 64, 64), Crop(0, -1, 64, 64), Crop(0, 740, 64, 64), Crop(450, 0, 64, 64)])
def test_a_crop_outside_is_refused(crop):
    with pytest.raises(ValueError, match="frame is 500 x 800, too small for Crop"):
        decode(png(FRAME), "frame", crop)
