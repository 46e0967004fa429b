import re

import cv2
import numpy as np
import pytest
from synthetic import moving_texture
from videos import warp

from vsr.data.sets import flow as optical_flow
from vsr.data.sets.flow import FlowCache, backward_flow


def shifted(dx, dy, size=(64, 64)):
    """Returns a frame, and the frame in which its contents have moved right by dx and down by dy."""
    canvas = moving_texture(1, (size[0] + 32, size[1] + 32), 8)[0]
    h, w = size
    return canvas[16 : 16 + h, 16 : 16 + w], canvas[16 - dy : 16 - dy + h, 16 - dx : 16 - dx + w]


@pytest.mark.parametrize(("dx", "dy"), [(3, 0), (0, 2), (-4, 1), (2, -5)])
@pytest.mark.parametrize("size", [(64, 64), (48, 96)])
def test_flow_points_from_the_next_frame_back_to_where_its_pixels_were(dx, dy, size):
    query, target = shifted(dx, dy, size)
    flow = backward_flow(target, query)
    assert flow.dtype == np.float32
    assert flow.shape == (2, *size)
    inner = flow[:, 8:-8, 8:-8]
    assert np.median(inner[0]) == pytest.approx(-dx, abs=0.2)  # what is at x now was at x - dx
    assert np.median(inner[1]) == pytest.approx(-dy, abs=0.2)


def test_warping_the_query_gives_the_next_frame():
    query, target = shifted(3, -2)
    away = [np.abs(frame.astype(float) - target)[8:-8, 8:-8].mean() for frame in (query, target)]
    warped = warp(query, backward_flow(target, query))
    wrong = warp(query, -backward_flow(target, query))
    error, error_wrong = (np.abs(frame.astype(float) - target)[8:-8, 8:-8].mean() for frame in (warped, wrong))
    assert error < 0.15 * away[0] < away[0] < error_wrong


def test_warp_by_a_whole_number_is_a_shift():
    frame = np.arange(5 * 6, dtype=np.uint8).reshape(5, 6)
    flow = np.zeros((2, 5, 6), np.float32)
    flow[0] = 2
    np.testing.assert_array_equal(warp(frame, flow)[:, :4], frame[:, 2:])
    np.testing.assert_array_equal(warp(frame, flow)[:, 4:], frame[:, [5, 5]])


@pytest.mark.parametrize("size", [(64, 64), (16, 16), (12, 12), (12, 40), (63, 65)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_frames_that_do_not_change_do_not_move(size, level):
    frame = np.full((*size, 3), level, np.uint8)
    np.testing.assert_array_equal(backward_flow(frame, frame), np.zeros((2, *size)))


@pytest.mark.parametrize("size", [(64, 64), (12, 12), (13, 17), (12, 200)])
def test_any_frames_give_finite_flow(size):
    rng = np.random.default_rng(0)
    target, query = rng.integers(0, 256, (2, *size, 3), dtype=np.uint8)
    assert np.isfinite(backward_flow(target, query)).all()
    assert np.isfinite(backward_flow(np.zeros_like(target), query)).all()


def test_frames_too_small_for_the_estimator_are_named():
    with pytest.raises(ValueError, match="frames of 64 x 8 are too small for flow, at least 12"):
        backward_flow(np.zeros((64, 8, 3), np.uint8), np.zeros((64, 8, 3), np.uint8))


def test_flow_does_not_depend_on_the_number_of_threads():
    query, target = shifted(3, 2, (128, 160))
    before = cv2.getNumThreads()
    try:
        flows = []
        for threads in (1, 2, 7):
            cv2.setNumThreads(threads)
            flows.append(backward_flow(target, query))
    finally:
        cv2.setNumThreads(before)
    assert all(np.array_equal(flow, flows[0]) for flow in flows)


@pytest.fixture
def counted(monkeypatch):
    """Counts how many flows are computed."""
    calls = []

    def count(target, source):
        calls.append(1)
        return backward_flow(target, source)

    monkeypatch.setattr(optical_flow, "backward_flow", count)
    return calls


def test_a_flow_is_computed_once(tmp_path, counted):
    query, target = shifted(2, 1)
    first = FlowCache(tmp_path).read(target, query, "S1_Box_1_(C1)/000550-000600")
    second = FlowCache(tmp_path).read(target, query, "S1_Box_1_(C1)/000550-000600")
    assert len(counted) == 1
    np.testing.assert_array_equal(first, second)
    second[0] = 0  # it can be written to, and is no view of the file
    (file,) = tmp_path.rglob("*.npy")
    assert re.fullmatch(r"64x64/S1_Box_1_\(C1\)/000550-000600\.[0-9a-f]{8}\.npy", file.relative_to(tmp_path).as_posix())
    np.testing.assert_array_equal(np.load(file), first)
    assert not list(tmp_path.rglob("*.tmp"))


def test_other_pixels_are_another_flow(tmp_path, counted):
    query, target = shifted(2, 1)
    cache = FlowCache(tmp_path)
    cache.read(target, query, "a/0-1")
    changed = cache.read(query, target, "a/0-1")  # the frames have changed their places
    np.testing.assert_array_equal(changed, backward_flow(query, target))
    assert len(counted) == 2
    cache.read(query[:32], target[:32], "a/0-1")
    cache.read(query, target, "a/0-1")
    assert len(counted) == 3


def damage(content, how):
    return {"empty": b"", "cut": content[:-1], "longer": content + b"x", "header": content[:40], "text": b"hello" * 9}[
        how
    ]


@pytest.mark.parametrize("how", ["empty", "cut", "longer", "header", "text"])
def test_a_damaged_file_is_computed_anew(tmp_path, counted, how):
    query, target = shifted(2, 1)
    cache = FlowCache(tmp_path)
    flow = cache.read(target, query, "a/0-1")
    file = next(tmp_path.rglob("*.npy"))
    whole = file.read_bytes()
    file.write_bytes(damage(bytearray(whole), how))
    np.testing.assert_array_equal(cache.read(target, query, "a/0-1"), flow)
    assert len(counted) == 2
    assert file.read_bytes() == whole


def test_a_flipped_bit_of_the_header_changes_no_flow(tmp_path):
    query, target = shifted(1, 1, (12, 12))
    cache = FlowCache(tmp_path)
    flow = cache.read(target, query, "a/0-1")
    file = next(tmp_path.rglob("*.npy"))
    whole = file.read_bytes()
    for position in range(128):
        for bit in (0x01, 0x10):
            content = bytearray(whole)
            content[position] ^= bit
            file.write_bytes(content)
            np.testing.assert_array_equal(cache.read(target, query, "a/0-1"), flow)


def test_where_nothing_can_be_written_it_says_so_once(tmp_path, caplog, counted):
    (tmp_path / "file").write_text("in the way")
    query, target = shifted(2, 1)
    cache = FlowCache(tmp_path / "file" / "flow")
    with caplog.at_level("INFO", logger="vsr"):
        first = cache.read(target, query, "a/0-1")
        second = cache.read(target, query, "a/0-1")
    np.testing.assert_array_equal(first, second)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "flow_cache: cannot write to" in caplog.text


def test_a_folder_in_the_place_of_a_flow_is_no_accident(tmp_path):
    query, target = shifted(2, 1)
    FlowCache(tmp_path).read(target, query, "a/0-1")
    (file,) = tmp_path.rglob("*.npy")
    file.unlink()
    file.mkdir()
    assert FlowCache(tmp_path).read(target, query, "a/0-1").shape == (2, 64, 64)
