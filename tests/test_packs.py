import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import moving_texture

from preparation.pack_writer import pack_frame
from vsr.data.sources.base import Crop
from vsr.data.sources.images import decode, image_size
from vsr.data.sources.packs import HEADER_BYTES, read_header, unpack_frame

FORMS = ("raw", "tiles")


def noise(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_crop_of_every_size_comes_back(form, data):
    h, w = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))
    tile_size = data.draw(st.integers(1, 40))
    frame = noise(h, w) if data.draw(st.booleans()) else moving_texture(1, (h, w), 1)[0]
    packed = pack_frame(frame, form, tile_size)
    top, left = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    height, width = data.draw(st.integers(1, h - top)), data.draw(st.integers(1, w - left))
    crop = Crop(top, left, height, width)
    part = decode(packed, "frame", crop)
    np.testing.assert_array_equal(part, frame[top : top + height, left : left + width])
    assert part.flags.c_contiguous
    assert part.flags.writeable
    np.testing.assert_array_equal(decode(packed, "frame"), frame)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [0, 255])
def test_extreme_values_come_back(form, value):
    frame = np.full((33, 40, 3), value, np.uint8)
    frame[::2, ::3, 1] = 255 - value
    np.testing.assert_array_equal(decode(pack_frame(frame, form), "frame"), frame)


@pytest.mark.parametrize("form", FORMS)
def test_header_says_what_the_frame_is(form):
    packed = pack_frame(noise(21, 34), form, 16)
    header = read_header(packed[:HEADER_BYTES])
    assert (header.form, header.tile_size, header.height, header.width, header.grid) == (form, 16, 21, 34, (2, 3))
    assert image_size(packed[:HEADER_BYTES]) == (21, 34)
    for other in (b"\x89PNG\r\n\x1a\n" + bytes(20), b""):
        with pytest.raises(ValueError, match=r"\d+ bytes are no packed frame"):
            read_header(other)


def test_a_compressed_photograph_is_smaller_than_its_png():
    photo = skimage.data.astronaut()
    packed = len(pack_frame(photo, "tiles"))
    assert packed < 0.65 * photo.nbytes
    assert packed < len(cv2.imencode(".png", photo)[1])


@pytest.mark.parametrize("form", FORMS)
def test_a_crop_reads_only_the_tiles_it_touches(form):
    frame = noise(128, 128)
    packed = bytearray(pack_frame(frame, form, 32))
    header = read_header(packed)
    # Damage whatever follows the first row of tiles: a crop inside that row does not notice.
    end = len(packed) * 2 // 5
    packed[end:] = bytes(len(packed) - end)
    np.testing.assert_array_equal(unpack_frame(packed, header, 3, 5, 20, 110), frame[3:23, 5:115])


def test_views_of_a_memory_map_are_enough():
    packed = memoryview(pack_frame(noise(40, 40), "tiles"))
    np.testing.assert_array_equal(decode(packed, "frame", Crop(1, 2, 30, 31)), noise(40, 40)[1:31, 2:33])


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_found_when_the_whole_frame_is_read(form):
    packed = bytearray(pack_frame(noise(64, 64), form))
    packed[len(packed) // 2] ^= 1
    with pytest.raises(ValueError, match="frame 7 is damaged"):
        decode(bytes(packed), "frame 7")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keep", [HEADER_BYTES, HEADER_BYTES + 5, 0.5, 0.99])
def test_a_truncated_frame_is_refused(form, keep):
    packed = pack_frame(noise(40, 40), form)
    with pytest.raises(ValueError, match="frame 7 is damaged"):
        decode(packed[: keep if isinstance(keep, int) else int(keep * len(packed))], "frame 7", Crop(0, 0, 40, 40))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120), st.sampled_from(FORMS))
def test_any_bytes_after_a_header_are_refused_or_read(data, form):
    packed = pack_frame(noise(8, 8), form, 4)[:HEADER_BYTES] + data
    try:
        assert decode(packed, "frame", Crop(0, 0, 8, 8)).shape == (8, 8, 3)
    except ValueError as error:
        assert "frame is damaged" in str(error)


@pytest.mark.parametrize("crop", [Crop(0, 0, 41, 4), Crop(0, 37, 4, 4), Crop(-1, 0, 4, 4)])
def test_a_crop_outside_is_refused(crop):
    with pytest.raises(ValueError, match="frame is 40 x 40, too small for Crop"):
        decode(pack_frame(noise(40, 40), "raw"), "frame", crop)


@pytest.mark.parametrize("place", range(4, 12))
@pytest.mark.parametrize("value", [0, 2, 255])
def test_a_damaged_header_is_told_or_the_frame_is_whole(place, value):
    data = bytearray(pack_frame(moving_texture(1, (40, 50), 3)[0], "raw"))
    whole = decode(bytes(data), "frame")
    data[place] = value
    try:
        np.testing.assert_array_equal(decode(bytes(data), "frame"), whole)
    except ValueError as error:
        assert "frame is damaged" in str(error) or "all frames of a clip must have one size" in str(error)
