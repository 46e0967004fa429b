import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vsr.data.sources import images
from vsr.data.sources.base import Crop
from vsr.data.sources.images import decode

FRAME = cv2.resize(skimage.data.coffee(), (800, 500))
CROPS = (
    Crop(0, 0, 64, 64),
    Crop(10, 33, 100, 90),
    Crop(300, 700, 100, 100),
    Crop(360, 0, 64, 800),
    Crop(436, 736, 64, 64),
)


def png(frame, *settings):
    return cv2.imencode(".png", frame[..., ::-1], list(settings))[1].tobytes()


@pytest.fixture(params=["zlib", "zlib_ng.zlib_ng"], autouse=True)
def inflater(request, monkeypatch):
    """Runs every test with zlib and, where it is installed, with zlib-ng."""
    monkeypatch.setattr(images, "inflater", pytest.importorskip(request.param))


@pytest.fixture
def parts(monkeypatch):
    """Collects what the decoder of parts returned."""
    results = []
    original = images.png_crop
    monkeypatch.setattr(images, "png_crop", lambda *a: results.append(original(*a)) or results[-1])
    return results


def read(data, crop, name="frame"):
    """Returns the rectangle as a store reads it."""
    part = images.png_crop(data, crop)
    return decode(data, name, crop) if part is None else part


@pytest.mark.parametrize("filters", [8, 16, 32, 64, 128, 248], ids=["none", "sub", "up", "average", "paeth", "all"])
def test_a_crop_of_a_large_png_is_that_part_of_the_frame(parts, filters):
    if not hasattr(cv2, "IMWRITE_PNG_FILTER"):
        pytest.skip("this OpenCV cannot choose the filter")
    data = png(FRAME, cv2.IMWRITE_PNG_COMPRESSION, 6, cv2.IMWRITE_PNG_FILTER, filters)
    for crop in CROPS:
        expected = FRAME[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        np.testing.assert_array_equal(read(data, crop), expected)
        np.testing.assert_array_equal(decode(data, "frame", crop), expected)
    assert all(part is not None for part in parts)


def test_the_result_can_be_written_to():
    for crop in (CROPS[0], Crop(0, 0, 100, 800), Crop(0, 0, 500, 800)):
        assert read(png(FRAME), crop).flags.writeable


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def filtered_png(frame, filters, chunk_bytes):
    """Returns a PNG as the standard says: row y has the filter ``filters[y]``; IDAT chunks of so many bytes."""
    h, w, _ = frame.shape
    x = np.pad(frame.astype(np.int64), ((1, 0), (1, 0), (0, 0)))  # nothing left of and above the frame
    left, up, corner = x[1:, :-1], x[:-1, 1:], x[:-1, :-1]
    estimate = left + up - corner
    distances = np.stack([abs(estimate - left), abs(estimate - up), abs(estimate - corner)])
    paeth = np.choose(distances.argmin(0), [left, up, corner])  # ties: left before up before corner, as argmin does
    predictions = [np.zeros_like(left), left, up, (left + up) // 2, paeth]
    rows = [
        bytes([kind]) + (frame[y] - predictions[kind][y]).astype(np.uint8).tobytes() for y, kind in enumerate(filters)
    ]
    stream = zlib.compress(b"".join(rows))
    body = b"".join(chunk(b"IDAT", stream[at : at + chunk_bytes]) for at in range(0, len(stream), chunk_bytes))
    return images._PNG_START + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)) + body + chunk(b"IEND", b"")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_mixture_of_filters_gives_the_frame(data):
    h, w = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    frame = FRAME[100 : 100 + h, 200 : 200 + w]
    filters = data.draw(st.lists(st.integers(0, 4), min_size=h, max_size=h))
    encoded = filtered_png(frame, filters, data.draw(st.sampled_from([7, 100, 1 << 20])))
    np.testing.assert_array_equal(decode(encoded, "frame"), frame)
    top, left = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    crop = Crop(top, left, data.draw(st.integers(1, h - top)), data.draw(st.integers(1, w - left)))
    expected = frame[top : top + crop.height, left : left + crop.width]
    np.testing.assert_array_equal(images.png_crop(encoded, crop), expected)
    np.testing.assert_array_equal(decode(encoded, "frame", crop), expected)


def test_a_filter_that_does_not_exist_is_told():
    rows = np.insert(FRAME.reshape(500, 2400), 0, 0, axis=1)
    rows[30, 0] = 9
    header = struct.pack(">IIBBBBB", 800, 500, 8, 2, 0, 0, 0)
    encoded = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match="frame cannot be decoded"):
        read(images._PNG_START + encoded, Crop(0, 0, 64, 64))


def test_rows_below_the_crop_are_not_inflated():
    """Below stands what cannot be inflated, with right checksums: only who inflates it sees it."""
    header = struct.pack(">IIBBBBB", 800, 500, 8, 2, 0, 0, 0)
    rows = np.insert(FRAME.reshape(500, 2400), 0, 0, axis=1)  # each row preceded by its filter, none
    stream = zlib.compress(rows.tobytes())
    stream = stream[: len(stream) // 2] + bytes(range(256)) * 100
    data = images._PNG_START + chunk(b"IHDR", header) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(read(data, Crop(0, 0, 64, 64)), FRAME[:64, :64])
    with pytest.raises(ValueError, match="frame cannot be decoded"):
        read(data, Crop(400, 0, 64, 64))


@pytest.mark.parametrize("place", [0.2, 0.5, 0.95])
def test_damage_anywhere_is_found_also_below_the_crop(place):
    data = bytearray(png(FRAME))
    data[int(place * len(data))] ^= 255
    with pytest.raises(ValueError, match="frame 5 cannot be decoded"):
        read(bytes(data), Crop(0, 0, 64, 64), "frame 5")


@pytest.mark.parametrize("missing", [1, 6, 12, 13, 100])
def test_a_truncated_png_is_refused_even_if_the_crop_is_complete(missing):
    data = png(FRAME)[:-missing]
    with pytest.raises(ValueError, match="frame is truncated: the image ends after"):
        read(data, Crop(0, 0, 64, 64))


@pytest.mark.parametrize("is_apart", [True, False])
def test_a_crop_of_an_animation_is_of_the_frame_that_is_read_whole(is_apart):
    """The default image, the only one in IDAT chunks, need not be part of the animation."""
    file, images_of = io.BytesIO(), [Image.fromarray(FRAME + np.uint8(value)) for value in (0, 50, 100)]
    images_of[0].save(file, "png", save_all=True, append_images=images_of[1:], default_image=is_apart)
    whole = decode(file.getvalue(), "frame")
    np.testing.assert_array_equal(whole, FRAME + np.uint8(50 if is_apart else 0))
    np.testing.assert_array_equal(read(file.getvalue(), CROPS[1]), whole[10:110, 33:123])


@pytest.mark.parametrize("suffix", [".tiff", ".hdr", ".pfm"])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
def test_an_image_of_other_numbers_is_refused_by_their_type(suffix, kind):
    is_encoded, data = cv2.imencode(suffix, (FRAME / 255).astype(kind))
    if not is_encoded or (suffix != ".tiff" and kind is not np.float32):
        pytest.skip("no such file")
    for crop in (None, CROPS[0]):
        with pytest.raises(ValueError, match=f"frame cannot be decoded: it is an image of {np.dtype(kind)} values"):
            read(data.tobytes(), crop)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_other_kinds_of_png_are_decoded_whole(parts, mode):
    image = Image.fromarray(FRAME)
    image = image.convert("L").convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    stream = io.BytesIO()
    image.save(stream, "png")
    expected = cv2.imdecode(np.frombuffer(stream.getvalue(), np.uint8), cv2.IMREAD_COLOR)[5:69, 7:71, ::-1]
    np.testing.assert_array_equal(read(stream.getvalue(), Crop(5, 7, 64, 64)), expected)
    assert parts == [None]


@pytest.mark.parametrize("crop", [Crop(-1, 0, 64, 64), Crop(0, -1, 64, 64), Crop(0, 740, 64, 64), Crop(450, 0, 64, 64)])
def test_a_crop_outside_is_refused(crop):
    with pytest.raises(ValueError, match="frame is 500 x 800, too small for Crop"):
        read(png(FRAME), crop)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_frame_is_not_turned_whatever_a_camera_noted(orientation):
    """Or crops, which are read without looking at the note, would be of another place than the frame's."""
    exif = Image.Exif()
    exif[0x112] = orientation
    file = io.BytesIO()
    Image.fromarray(FRAME).save(file, "png", exif=exif)
    np.testing.assert_array_equal(decode(file.getvalue(), "frame"), FRAME)
    np.testing.assert_array_equal(read(file.getvalue(), CROPS[1]), FRAME[10:110, 33:123])


def test_a_size_that_no_image_has_is_told():
    data = bytearray(cv2.imencode(".jpg", FRAME)[1].tobytes())
    place = data.index(b"\xff\xc0")
    data[place + 5] ^= 0x80  # height and width + 32768
    data[place + 7] ^= 0x80
    with pytest.raises(ValueError, match="frame cannot be decoded"):
        decode(bytes(data), "frame")
