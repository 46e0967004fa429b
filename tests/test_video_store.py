"""Videos in place of folders of frames. They are lossless (FFV1), so that every pixel can be compared."""

import multiprocessing
import pickle
import shutil

import cv2
import numpy as np
import pytest
import torch
from synthetic import moving_texture
from torch.utils.data import DataLoader

from vsr.data import VideoTestDataset
from vsr.data.degrade.imresize import imresize
from vsr.data.sources.video_store import VideoStore, holds_videos
from vsr.data.stream.augment import Crop


def write_video(file, frames):
    file.parent.mkdir(parents=True, exist_ok=True)
    h, w, _ = frames[0].shape
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"FFV1"), 25, (w, h))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return file


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
            write_video(root / "videos" / side / f"{clip}.avi", pixels)
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


def assert_same_sets(videos, folders):
    assert len(videos) == len(folders)
    for one, other in zip(videos, folders, strict=True):
        assert one.keys() == other.keys()
        assert one["key"] == other["key"]
        assert all(torch.equal(one[side], other[side]) for side in ("lq", "gt") if side in one)


@pytest.mark.parametrize("padding", ["reflection_circle", "replicate", "circle"])
@pytest.mark.parametrize("sides", [("lq",), ("lq", "gt")])
def test_a_test_set_of_videos_is_that_of_their_frames(roots, sides, padding):
    videos, folders = (
        VideoTestDataset(**{f"dataroot_{side}": str(roots / kind / side) for side in sides}, padding=padding)
        for kind in ("videos", "folders")
    )
    assert_same_sets([videos[item] for item in range(10)], [folders[item] for item in range(10)])
    assert_same_sets([videos[item] for item in (9, 3, 0, 5)], [folders[item] for item in (9, 3, 0, 5)])


def test_one_video_and_frames_of_other_names_are_a_set(roots, films, tmp_path):
    write_frames(tmp_path / "gt" / "walk", films["walk"], "im{}")
    dataset = VideoTestDataset(str(roots / "videos" / "lq" / "walk.avi"), str(tmp_path / "gt"), num_frame=3)
    assert len(dataset) == 7
    assert dataset[6]["key"] == "walk/00000006"
    np.testing.assert_array_equal(
        np.rint(dataset[6]["gt"].numpy() * 255), films["walk"][6][..., ::-1].transpose(2, 0, 1)
    )


def test_a_meta_file_takes_the_first_frames(roots, tmp_path):
    (tmp_path / "meta.txt").write_text("walk 4 (48,64,3)\n")
    dataset = VideoTestDataset(str(roots / "videos" / "lq"), meta_info_file=str(tmp_path / "meta.txt"))
    assert [sample["key"][-1] for sample in map(dataset.__getitem__, range(len(dataset)))] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_read_what_this_process_reads_even_if_it_read_before(roots, method):
    dataset = VideoTestDataset(str(roots / "videos" / "lq"), num_frame=3)
    alone = [dataset[item]["lq"].sum().item() for item in range(10)]
    context = multiprocessing.get_context(method)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=context)
    assert [sample["lq"].sum().item() for sample in loader] == alone
    assert [dataset[item]["lq"].sum().item() for item in range(10)] == alone


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
    assert "1 videos are not, such as walk.avi" in caplog.text
    assert [clip.name for clip in VideoTestDataset(str(tmp_path / "mixed")).clips] == ["clip 2", "walk"]
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
        file = write_video(tmp_path / "a.avi", films["walk"][:length])
        assert len(VideoStore(file).frames("a")) == length


def test_a_video_that_ends_early_is_told(films, tmp_path, caplog):
    for share, frames in ((1, 7), (0.5, 2)):
        file = write_video(tmp_path / f"{frames}.avi", films["walk"])
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
        with caplog.at_level("WARNING"):
            assert len(VideoStore(file).frames(file.stem)) == frames
    assert len(caplog.messages) == 1
    assert "2.avi' ends after 2 frames, its header says 7" in caplog.text
