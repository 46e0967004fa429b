import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from videos import make_clip, number_of, write_frame

from vsr.data.sources.frame_files import list_frames, read_frames


def numbers(folder, size=(8, 8)):
    return [number_of(frame.transpose(2, 0, 1)) for frame in read_frames(list_frames(folder).files(), size)]


@pytest.mark.parametrize("first", [0, 1, 998])
@pytest.mark.parametrize("digits", [1, 6, 7])
@pytest.mark.parametrize("prefix", ["", "0A8CF-", "12AB3-", "frame (2) "])
def test_any_numbering_is_in_numeric_order(tmp_path, first, digits, prefix):
    folder = make_clip(tmp_path / "S1_Box_1_(C1)", 12, first=first, digits=digits, prefix=prefix)
    assert numbers(folder) == list(range(12))


def test_paddings_prefixes_and_suffixes_may_be_mixed(tmp_path):
    for number, name in enumerate(["9.jpg", "0010.PNG", "a-000011.jpeg", "b12.bmp"]):
        write_frame(tmp_path / name, number)
    assert numbers(tmp_path) == [0, 1, 2, 3]


def test_what_is_no_frame_is_passed_over(tmp_path):
    folder = make_clip(tmp_path / "clip", 3)
    (folder / "notes 7.txt").write_text("")
    (folder / ".000003.jpg").write_text("")
    (folder / "sub5.d").mkdir()
    (folder / "000003.png").mkdir()
    frames = list_frames(folder)
    assert len(frames.names) == 3
    assert frames.left_out == [folder / "notes 7.txt"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"holds no frames; remove the folder and prepare the clip again"),
        (["x.txt"], "holds no frames"),
        (["000000.jpg", "cover.jpg"], r"frame '.*cover.jpg' has no number at the end of its name"),
        (["000001.jpg", "1.png"], "holds frame 1 twice"),
    ],
)
def test_folders_that_are_not_whole_are_named(tmp_path, names, message):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=message) as error:
        list_frames(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*S9_Box' with the frames of clip 'S9_Box'"):
        list_frames(tmp_path / "S9_Box")


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 30), st.integers(1, 9), st.randoms())
def test_order_does_not_depend_on_the_file_system(first, count, digits, random):
    names = [f"x-{number:0{digits}d}.jpg" for number in range(first, first + count)]
    shuffled = [SimpleNamespace(name=name, is_file=lambda: True) for name in random.sample(names, count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", lambda _: nullcontext(shuffled))
        assert [name.decode() for name in list_frames(Path("/")).names] == names


def test_names_that_are_no_text_are_found(tmp_path):
    name = b"\xff-000000.png"
    write_frame(tmp_path / os.fsdecode(name), 4)
    assert numbers(tmp_path) == [4]


def test_frames_are_averaged_down(tmp_path):
    board = np.zeros((4, 4, 3), np.uint8)
    board[:, ::2] = 200
    cv2.imwrite(str(tmp_path / "0.png"), board)
    (frame,) = read_frames([tmp_path / "0.png"], (2, 2))
    np.testing.assert_array_equal(frame, np.full((2, 2, 3), 100))


def test_frames_are_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.full((4, 4, 3), (1, 2, 3), np.uint8))
    (frame,) = read_frames([tmp_path / "0.png"], (3, 5))
    assert frame.shape == (3, 5, 3)
    assert frame[0, 0].tolist() == [3, 2, 1]


def test_frames_of_two_sizes_are_told_apart(tmp_path):
    write_frame(tmp_path / "000000.png", 0, (24, 32))
    write_frame(tmp_path / "000001.png", 1, (32, 24))
    with pytest.raises(ValueError, match=r"000001.png' is 32 x 24, but '000000.png' of the same clip is 24 x 32"):
        list(read_frames([tmp_path / "000000.png", tmp_path / "000001.png"], (8, 8)))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", r"is empty \(0 bytes\)"), (b"\xff\xd8cut", "is truncated"), (b"text", "cannot be decoded")],
)
def test_an_unreadable_frame_is_named(tmp_path, content, message):
    write_frame(tmp_path / "000000.jpg", 0)
    (tmp_path / "000001.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        list(read_frames([tmp_path / "000000.jpg", tmp_path / "000001.jpg"], (8, 8)))
    assert str(tmp_path / "000001.jpg") in str(error.value)
