import errno
import os
import struct

import cv2
import numpy as np
import pytest
from videos import levels, make_video

from vsr.data.sources import video_files
from vsr.data.sources.video_files import decode_video, extract_clip, fit, probe


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


def test_times_come_with_the_frames(tmp_path):
    frames = list(decode_video(make_video(tmp_path / "a.mp4", 4, fps=25)))
    assert [time for _, time in frames] == pytest.approx([0, 40, 80, 120])
    assert frames[0][0].shape == (48, 64, 3)


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


def test_a_name_that_is_not_utf8_is_told_in_characters_that_can_be_printed(tmp_path):
    video = tmp_path / os.fsdecode(b"bad\xff.mp4")
    video.write_bytes(make_video(tmp_path / "good.mp4").read_bytes())
    for read in (probe, lambda file: extract_clip(file, tmp_path / "clip")):
        with pytest.raises(
            ValueError, match=r"video '.*bad\\udcff.mp4' has a name that is not UTF-8; rename it"
        ) as error:
            read(video)
        assert str(error.value).isascii()


def test_a_missing_video_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"video '.*none.avi' does not exist"):
        extract_clip(tmp_path / "none.avi", tmp_path / "clip")


def cut(video, share):
    content = video.read_bytes()
    video.write_bytes(content[: int(len(content) * share)])
    return video


def test_a_truncated_video_is_refused_unless_asked_for(tmp_path):
    video = cut(make_video(tmp_path / "a.avi", 40), 0.6)
    with pytest.raises(ValueError, match=r"a.avi' ends after \d+ frames, its header says 40: .* --accept-short"):
        extract_clip(video, tmp_path / "clip")
    assert [path.name for path in tmp_path.iterdir()] == ["a.avi"]
    info, notes = extract_clip(video, tmp_path / "clip", accept_short=True)
    assert 10 < info.num_frames < 35
    assert notes == [f"'{video}' has {info.num_frames} frames, its header says 40"]
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


def test_a_header_that_is_off_by_one_is_only_noted(tmp_path, monkeypatch):
    video = make_video(tmp_path / "a.avi", 12)
    true = probe(video)
    monkeypatch.setattr(video_files, "probe", lambda _: true._replace(num_frames=13))
    info, notes = extract_clip(video, tmp_path / "clip")
    assert info.num_frames == 12
    assert notes == [f"'{video}' has 12 frames, its header says 13"]


@pytest.mark.parametrize("claimed", [0, 5])
def test_a_header_that_claims_too_little_loses_nothing(tmp_path, monkeypatch, claimed):
    video = make_video(tmp_path / "a.avi", 12)
    true = probe(video)
    monkeypatch.setattr(video_files, "probe", lambda _: true._replace(num_frames=claimed))
    assert extract_clip(video, tmp_path / "clip").info.num_frames == 12


def with_second_rate(content, num_fast, fast, num_slow, slow):
    """Returns an MP4 whose table of frame durations (stts) has two entries instead of one."""
    content = bytearray(content)
    position = content.index(b"stts") - 4
    content[position + 12 : position + 24] = struct.pack(">IIIII", 2, num_fast, fast, num_slow, slow)
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):  # 8 bytes more in each box around the table
        at = content.index(box) - 4
        content[at : at + 4] = struct.pack(">I", struct.unpack(">I", content[at : at + 4])[0] + 8)
    return bytes(content)


def test_a_variable_frame_rate_is_noted(tmp_path):
    video = make_video(tmp_path / "a.mp4", 12, fps=25)
    content = video.read_bytes()
    at = content.index(b"stts") + 8
    entries, count, duration = struct.unpack(">III", content[at : at + 12])
    assert (entries, count) == (1, 12)
    assert content.index(b"moov") > content.index(b"mdat")  # so that no offset into the frames changes
    video.write_bytes(with_second_rate(content, 6, duration // 2, 6, duration * 3 // 2))
    info, notes = extract_clip(video, tmp_path / "clip")
    assert info.num_frames == 12
    assert notes == [
        f"the frame rate of '{video}' varies, 20 to 60 ms between frames: frame_interval counts frames, not time"
    ]


def test_frames_that_change_their_size_are_refused(tmp_path, monkeypatch):
    class Capture:
        frames = iter([np.zeros((4, 6, 3), np.uint8), np.zeros((6, 4, 3), np.uint8)])

        def read(self):
            return True, next(self.frames)

        def get(self, _):
            return 0.0

        def release(self):
            pass

    monkeypatch.setattr(video_files, "_open", lambda _: Capture())
    with pytest.raises(ValueError, match=r"the frames of video '.*a.avi' change from \(4, 6\) to \(6, 4\)"):
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


def test_frames_that_vanish_while_others_are_written_are_no_clip(tmp_path):
    video = make_video(tmp_path / "a.avi", 8)

    def remove_the_first_frames():
        for file in sorted((tmp_path / ".clip.partial").iterdir())[:-1]:
            file.unlink()

    with pytest.raises(ValueError, match=r"clip.partial' holds 1 of the 8 frames that were written"):
        extract_clip(video, tmp_path / "clip", on_frame=remove_the_first_frames)
    assert [path.name for path in tmp_path.iterdir()] == ["a.avi"]
