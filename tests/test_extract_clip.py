"""A video becomes a folder of frames; damaged ones are refused."""

import errno

import cv2
import numpy as np
import pytest
from videos import levels, make_video, noise, write_video

from preparation import extract_clip as module
from preparation.extract_clip import extract_clip, fit
from vsr.data.video.reader import probe


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_a_video_becomes_frames_from_0(tmp_path, suffix):
    video = make_video(tmp_path / "video" / "S1" / f"Box 1_(C1){suffix}", num_frames=14, size=(48, 80), fps=30)
    counted = []
    info, notes = extract_clip(video, tmp_path / "image" / "S1_Box 1_(C1)", on_frame=lambda: counted.append(1))
    assert info == (14, 30, 80, 48)
    assert notes == []
    assert len(counted) == 14
    folder = tmp_path / "image" / "S1_Box 1_(C1)"
    assert sorted(file.name for file in folder.iterdir()) == [f"{number:06d}.jpg" for number in range(14)]
    assert levels(folder) == pytest.approx([8 * number + 20 for number in range(14)], abs=5)
    assert [path.name for path in (tmp_path / "image").iterdir()] == ["S1_Box 1_(C1)"]


def test_probing_tells_what_the_header_says(tmp_path):
    assert probe(make_video(tmp_path / "a.mp4", 9, (32, 48), 12.5)) == (9, 12.5, 48, 32)


@pytest.mark.parametrize(("size", "expected"), [((48, 64), (24, 32)), ((64, 48), (32, 24)), ((20, 30), (20, 30))])
def test_frames_shrink_until_their_longer_side_fits(tmp_path, size, expected):
    video = make_video(tmp_path / "a.avi", 2, size)
    info, _ = extract_clip(video, tmp_path / "clip", max_side=32)
    assert (info.height, info.width) == expected
    assert cv2.imread(str(tmp_path / "clip" / "000000.jpg")).shape[:2] == expected
    assert fit(np.zeros((1, 1000, 3), np.uint8), 10).shape == (1, 10, 3)


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(5000)])
def test_what_is_no_video_is_named(tmp_path, suffix, content):
    video = tmp_path / f"S1 (x){suffix}"
    video.write_bytes(content)
    for read in (probe, lambda file: extract_clip(file, tmp_path / "clip")):
        with pytest.raises(
            ValueError, match=rf"video '.*S1 \(x\){suffix}' cannot be opened: {len(content)} bytes that"
        ):
            read(video)
    assert [path.name for path in tmp_path.iterdir()] == [video.name]


def test_a_missing_video_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"video '.*none.avi' does not exist"):
        extract_clip(tmp_path / "none.avi", tmp_path / "clip")


def cut(video, share):
    content = video.read_bytes()
    video.write_bytes(content[: int(len(content) * share)])
    return video


def test_a_truncated_video_is_refused_unless_asked_for(tmp_path):
    video = cut(make_video(tmp_path / "a.avi", 40), 0.6)
    with pytest.raises(
        ValueError,
        match=r"a.avi' ends after \d+ frames, its header says 40.*; --accept-short",
    ):
        extract_clip(video, tmp_path / "clip")
    assert [path.name for path in tmp_path.iterdir()] == ["a.avi"]
    info, notes = extract_clip(video, tmp_path / "clip", accept_short=True)
    assert 10 < info.num_frames < 35
    assert notes == [
        f"video '{video}' ends after {info.num_frames} frames, its header says 40: it is damaged. Copy it again"
    ]
    assert len(levels(tmp_path / "clip")) == info.num_frames


def test_a_truncated_mp4_has_lost_its_index(tmp_path):
    with pytest.raises(ValueError, match="cannot be opened"):
        extract_clip(cut(make_video(tmp_path / "a.mp4", 40), 0.9), tmp_path / "clip")


def test_a_video_of_which_no_frame_can_be_decoded(tmp_path):
    video = make_video(tmp_path / "a.avi", 8)
    content = bytearray(video.read_bytes())
    start = content.index(b"movi") + 4
    content[start:] = bytes(len(content) - start)
    video.write_bytes(content)
    with pytest.raises(ValueError, match=r"no frame of video '.*a.avi' can be decoded"):
        extract_clip(video, tmp_path / "clip", accept_short=True)


def test_a_variable_frame_rate_is_noted(tmp_path):
    video = write_video(
        tmp_path / "a.mkv", noise(12), times=[20 * k for k in range(6)] + [160 + 60 * k for k in range(6)]
    )
    info, notes = extract_clip(video, tmp_path / "clip")
    assert info.num_frames == 12
    assert notes == [
        f"the frame rate of '{video}' varies, 20 to 60 ms between frames: frame_interval counts frames, not time"
    ]


def test_frames_that_change_their_size_are_refused(tmp_path, monkeypatch):
    def sizes(_):
        yield np.zeros((4, 6, 3), np.uint8), 0.0
        raise ValueError("the frames of video 'a.avi' change")

    monkeypatch.setattr(module, "decode", sizes)
    with pytest.raises(ValueError, match=r"the frames of video 'a.avi' change"):
        extract_clip(tmp_path / "a.avi", tmp_path / "clip")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_place_and_leaves_nothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")  # as a failed write does, without a name

    video = make_video(tmp_path / "a.avi")
    monkeypatch.setattr("pathlib.Path.write_bytes", refuse)
    with pytest.raises(OSError, match=r"No space left on device: '.*clip"):
        extract_clip(video, tmp_path / "clip")
    assert [path.name for path in tmp_path.iterdir()] == ["a.avi"]


def test_the_remains_of_a_stopped_run_are_replaced(tmp_path):
    video = make_video(tmp_path / "a.avi", 3)
    (tmp_path / ".clip.partial").mkdir()
    (tmp_path / ".clip.partial" / "000099.jpg").write_bytes(b"")
    extract_clip(video, tmp_path / "clip")
    assert len(list((tmp_path / "clip").iterdir())) == 3
    assert not (tmp_path / ".clip.partial").exists()
