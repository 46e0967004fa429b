"""Videos in place of folders of frames: every pixel, damage, colours. Most are lossless (FFV1)."""

import multiprocessing
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import av
import cv2
import numpy as np
import pytest
from processes import fresh
from synthetic import moving_texture
from videos import make_video, noise, write_video

from vsr.data import VideoTestDataset
from vsr.data.degrade.imresize import imresize
from vsr.data.sources.base import Crop
from vsr.data.video.reader import damage, decode, probe
from vsr.data.video.store import VideoStore, holds_videos


def write_lossless(file, frames):
    file.parent.mkdir(parents=True, exist_ok=True)
    return write_video(file, np.stack(frames)[..., ::-1], "ffv1", "bgr0")


def write_frames(folder, frames, name="{:08d}"):
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{name.format(number)}.png"), frame)


@pytest.fixture(scope="module")
def films():
    """GT frames of two clips, BGR."""
    return {"walk": moving_texture(7, (48, 64), 1), "clip 2": moving_texture(3, (32, 64), 2)}


@pytest.fixture(scope="module")
def roots(films, tmp_path_factory):
    """The same clips as videos and as folders, GT and LQ."""
    root = tmp_path_factory.mktemp("films")
    for clip, frames in films.items():
        for side, pixels in (("gt", frames), ("lq", [imresize(frame, 0.25) for frame in frames])):
            write_lossless(root / "videos" / side / f"{clip}.avi", pixels)
            write_frames(root / "folders" / side / clip, pixels)
    return root


def test_clips_and_frames(roots, films):
    store = VideoStore(roots / "videos" / "gt")
    assert store.clips() == ["clip 2", "walk"]
    assert store.frames("walk") == [f"{number:08d}" for number in range(7)]
    assert store.frames("run") == []
    assert store.has("clip 2/00000002")
    assert not store.has("clip 2/00000003")
    assert store.size("clip 2/00000000") == (32, 64)


@pytest.mark.parametrize("order", [range(7), [4, 3, 0, 1, 2], [6, 6, 0, 5], [2, 2, 3, 1]])
def test_frames_come_in_any_order(roots, films, order):
    store = VideoStore(roots / "videos" / "gt")
    for number in order:
        np.testing.assert_array_equal(store.read(f"walk/{number:08d}"), films["walk"][number][..., ::-1])
        np.testing.assert_array_equal(store.read("clip 2/00000001"), films["clip 2"][1][..., ::-1])


def test_a_crop_is_that_part_of_the_frame(roots, films):
    store = VideoStore(roots / "videos" / "gt")
    np.testing.assert_array_equal(store.read("walk/00000002", Crop(3, 5, 7, 9)), films["walk"][2][3:10, 5:14, ::-1])
    with pytest.raises(ValueError, match=r"walk\.avi, frame 00000002 is 48 x 64, too small for Crop"):
        store.read("walk/00000002", Crop(40, 0, 9, 9))


@pytest.mark.parametrize("sides", [("lq",), ("lq", "gt")])
def test_a_test_set_of_videos_is_that_of_their_frames(roots, sides):
    videos, folders = (
        VideoTestDataset(**{f"dataroot_{side}": str(roots / kind / side) for side in sides})
        for kind in ("videos", "folders")
    )
    assert [(clip.name, clip.frames) for clip in videos] == [(clip.name, clip.frames) for clip in folders]
    for indices in ((0, 1, 2, 3), (2, 0, 1)):
        for video, folder in zip(videos, folders, strict=True):
            assert video.in_order and not folder.in_order
            for index in (index for index in indices if index in video.targets):
                np.testing.assert_array_equal(video.lq(index), folder.lq(index))
                if "gt" in sides:
                    np.testing.assert_array_equal(video.gt(index), folder.gt(index))


def test_one_video_and_frames_of_other_names_are_a_set(roots, films, tmp_path):
    write_frames(tmp_path / "gt" / "walk", films["walk"], "im{}")
    (clip,) = VideoTestDataset(str(roots / "videos" / "lq" / "walk.avi"), str(tmp_path / "gt"), num_frame=3)
    assert len(clip.targets) == 7 and clip.frames[6] == "00000006"
    np.testing.assert_array_equal(clip.gt(6), films["walk"][6][..., ::-1])


def test_a_meta_file_takes_the_first_frames(roots, tmp_path):
    (tmp_path / "meta.txt").write_text("walk 4 (48,64,3)\n")
    (clip,) = VideoTestDataset(str(roots / "videos" / "lq"), meta_info_file=str(tmp_path / "meta.txt"))
    assert [name[-1] for name in clip.frames] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("context", [multiprocessing.get_context("fork"), fresh], ids=["fork", "fresh"])
def test_workers_read_what_this_process_reads_even_if_it_read_before(roots, context):
    store = VideoStore(roots / "videos" / "lq")
    keys = [f"{clip}/{name}" for clip in store.clips() for name in store.frames(clip)]
    alone = [int(store.read(key).sum()) for key in keys]
    with context.Pool(2) as pool:
        assert [int(pixels.sum()) for pixels in pool.map(store.read, keys)] == alone
    assert [int(store.read(key).sum()) for key in keys] == alone


COLLECT_IN_A_FORK = """
import gc, os, sys
from pathlib import Path
from vsr.data.video.store import VideoStore
store = VideoStore(Path(sys.argv[1]))
store.read("walk/00000003")
child = os.fork()
del store
gc.collect()
if child == 0:
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_may_drop_the_decoder_of_its_parent(roots):
    command = [sys.executable, "-c", COLLECT_IN_A_FORK, str(roots / "videos" / "gt")]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


def test_a_copy_through_pickle_reads_the_same(roots, films):
    store = VideoStore(roots / "videos" / "gt")
    store.read("walk/00000003")
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read("walk/00000001"), films["walk"][1][..., ::-1])


def test_what_counts_as_videos(roots, tmp_path, caplog):
    assert holds_videos(roots / "videos" / "gt")
    assert holds_videos(roots / "videos" / "gt" / "walk.avi")
    assert not holds_videos(roots / "folders" / "gt")
    assert not holds_videos(tmp_path)
    assert not holds_videos(tmp_path / "none.mp4")
    shutil.copytree(roots / "folders" / "lq", tmp_path / "mixed")
    shutil.copy(roots / "videos" / "lq" / "walk.avi", tmp_path / "mixed")  # beside folders of frames it is no clip
    assert not holds_videos(tmp_path / "mixed")
    assert "holds videos and folders: the 1 videos, such as walk.avi, are ignored" in caplog.text
    assert [clip.name for clip in VideoTestDataset(str(tmp_path / "mixed"))] == ["clip 2", "walk"]
    shutil.copytree(roots / "videos" / "gt", tmp_path / "videos")
    for name in (".hidden", "empty"):
        (tmp_path / "videos" / name).mkdir()
    (tmp_path / "videos" / ".hidden" / "a").touch()
    assert holds_videos(tmp_path / "videos")


def test_bad_videos_are_named(roots, tmp_path):
    shutil.copy(roots / "videos" / "lq" / "walk.avi", tmp_path / "walk.avi")
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.mp4' cannot be opened: 0 bytes"):
        VideoTestDataset(str(tmp_path))
    (tmp_path / "empty.mp4").rename(tmp_path / "walk.mp4")
    with pytest.raises(ValueError, match=r"dataroot_lq: .* holds videos that differ in their suffix only"):
        VideoTestDataset(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"dataroot_lq: folder '.*none\.mp4' does not exist"):
        VideoTestDataset(str(tmp_path / "none.mp4"))
    store = VideoStore(roots / "videos" / "gt")
    for key in ("walk/00000007", "run/00000000", "walk/x"):
        with pytest.raises(FileNotFoundError, match="has no frame"):
            store.read(key)


def test_a_video_that_is_exchanged_is_counted_anew(roots, films, tmp_path):
    for length in (5, 2):
        file = write_lossless(tmp_path / "a.avi", films["walk"][:length])
        assert len(VideoStore(file).frames("a")) == length


def test_a_video_that_ends_early_is_told(films, tmp_path, caplog):
    for name, share, counts in (("whole", 1, [7]), ("half", 0.5, [1, 2, 3])):
        file = write_lossless(tmp_path / f"{name}.avi", films["walk"])
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
        with caplog.at_level("WARNING"):
            assert len(VideoStore(file).frames(file.stem)) in counts
    assert len(caplog.messages) == 1
    assert re.search(r"half.avi' ends after [123] frames, its header says 7: it is damaged", caplog.text)


def count(video):
    return sum(1 for _ in decode(video))


def test_a_header_is_probed_without_decoding(tmp_path):
    assert probe(make_video(tmp_path / "a.mp4", 9, (32, 48), 12.5)) == (9, 12.5, 48, 32)
    assert probe(write_video(tmp_path / "a.mkv", noise(9))).num_frames == 9  # an estimate, from the duration


def test_frames_come_with_their_times(tmp_path):
    frames = list(decode(make_video(tmp_path / "a.mp4", 4, fps=25)))
    assert [time for _, time in frames] == pytest.approx([0, 0.04, 0.08, 0.12])
    assert frames[0][0].shape == (48, 64, 3)


@pytest.mark.parametrize("name", ["a:b.mp4", os.fsdecode(b"bad\xff.mp4"), "100%d.mp4", "caf\u00e9 \u2606.mp4"])
def test_any_name_of_a_file_is_read(tmp_path, monkeypatch, name):
    make_video(tmp_path / "good.mp4", 3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert count(tmp_path / name) == 3
    assert VideoStore(tmp_path).read(f"{name[:-4]}/00000002").shape == (48, 64, 3)


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4", ".webm", ".ts"])
def test_sound_videos_are_not_damaged(tmp_path, suffix):
    video = write_video(tmp_path / f"a{suffix}", noise(60), "libvpx-vp9" if suffix == ".webm" else "libx264")
    assert count(video) == 60
    assert damage(video, 60) is None


def with_edit_list(video, start, num_frames):
    """Makes an MP4 at 25 frames per second show fewer frames than it holds."""
    content = bytearray(video.read_bytes())

    def unit(box):
        at = content.index(box)
        return struct.unpack(">I", content[at + 16 : at + 20])[0]

    at = content.index(b"elst") + 12
    media_start = struct.unpack(">i", content[at + 4 : at + 8])[0] + start * unit(b"mdhd") // 25
    content[at : at + 8] = struct.pack(">Ii", num_frames * unit(b"mvhd") // 25, media_start)
    video.write_bytes(content)
    return video


@pytest.mark.parametrize(("start", "num_frames"), [(0, 50), (10, 50), (5, 40)])
def test_an_edit_list_that_hides_frames_is_no_damage(tmp_path, start, num_frames):
    video = with_edit_list(write_video(tmp_path / "a.mp4", noise(60)), start, num_frames)
    assert (count(video), probe(video).num_frames) == (num_frames, 60)
    assert damage(video, num_frames) is None


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_variable_rate_is_no_damage(tmp_path, suffix):
    steps = np.random.default_rng(0).integers(10, 200, 60)
    video = write_video(tmp_path / f"a{suffix}", noise(60), times=np.cumsum(steps).tolist())
    assert count(video) == 60
    assert damage(video, 60) is None


def cut_off(video):
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 6 // 10])


def zero_in_the_middle(video):
    content = bytearray(video.read_bytes())
    middle, length = len(content) // 2, len(content) // 10
    content[middle : middle + length] = bytes(length)
    video.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "name", "arguments"),
    [
        (cut_off, "a.avi", {}),
        (cut_off, "a.mkv", {}),
        (cut_off, "varying.mkv", {"times": np.cumsum([40, 40, 40, 120] * 15).tolist()}),
        (cut_off, "a.mp4", {"container": {"movflags": "faststart"}}),
        (cut_off, "a.webm", {"codec": "libvpx-vp9"}),
        (zero_in_the_middle, "a.avi", {}),
        (zero_in_the_middle, "mjpeg.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
        (zero_in_the_middle, "a.mp4", {}),
    ],
)
def test_what_is_left_of_a_damaged_video_is_decoded_and_the_damage_is_told(tmp_path, harm, name, arguments):
    video = write_video(tmp_path / name, noise(60), **arguments)
    harm(video)
    decoded = count(video)
    assert 20 < decoded < 58
    assert damage(video, decoded).startswith(f"video '{video}' ends after {decoded} frames, its header says ")


@pytest.mark.parametrize(
    ("colorspace", "color_range", "kr", "kb"),
    [
        (2, 1, 0.299, 0.114),
        (1, 1, 0.2126, 0.0722),
        (1, 2, 0.2126, 0.0722),
        (5, 1, 0.299, 0.114),
        (9, 1, 0.2627, 0.0593),
    ],
    ids=["untagged: BT.601", "BT.709", "BT.709, full range", "BT.601", "BT.2020"],
)
def test_a_stream_says_its_matrix_and_range(tmp_path, colorspace, color_range, kr, kb):
    """Y, Cb and Cr are constant planes; their RGB follows from the matrix (ITU-T H.273)."""
    y, cb, cr = 120, 90, 170
    planes = np.concatenate([np.full(48 * 64, y), np.full(24 * 32, cb), np.full(24 * 32, cr)]).astype(np.uint8)
    file = tmp_path / "a.mkv"
    with av.open(str(file), "w") as target:
        stream = target.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = colorspace, color_range
        frame = av.VideoFrame.from_ndarray(planes.reshape(72, 64), format="yuv420p")
        frame.colorspace, frame.color_range = colorspace, color_range
        target.mux(stream.encode(frame))
        target.mux(stream.encode())
    full = color_range == 2
    luma = y / 255 if full else (y - 16) / 219
    blue, red = ((plane - 128) / (255 if full else 224) for plane in (cb, cr))
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    ((pixels, _),) = decode(file)
    assert pixels[10, 10] == pytest.approx(np.array([r, g, b]) * 255, abs=2.5)  # swscale's tables


def test_interlaced_frames_are_not_black(tmp_path):
    """OpenCV 4.13 to 5.0 returns True and writes nothing."""
    frames = noise(5)
    options = {"crf": "5", "flags": "+ildct+ilme", "x264-params": "tff=1"}
    video = write_video(tmp_path / "a.mp4", frames, options=options)
    for (pixels, _), frame in zip(decode(video), frames, strict=True):
        assert np.abs(pixels.mean(-1) - frame.mean(-1)).mean() < 20


def test_several_threads_read_one_store(roots, films):
    store = VideoStore(roots / "videos" / "gt")
    with ThreadPoolExecutor(4) as pool:
        frames = list(pool.map(lambda number: store.read(f"walk/{number:08d}"), [0, 6, 1, 5, 2, 4, 3] * 3))
    for number, frame in zip([0, 6, 1, 5, 2, 4, 3] * 3, frames, strict=True):
        np.testing.assert_array_equal(frame, films["walk"][number][..., ::-1])
