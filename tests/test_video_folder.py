"""Training from video files: the cache of decoded frames, LQ frames made when they are read, and the data set."""

import os

import av
import numpy as np
import pytest

from vsr.contracts import SampleKey
from vsr.data.degrade.imresize import imresize
from vsr.data.sets.video_folder import VideoFolderDataset
from vsr.data.sources.base import Crop
from vsr.data.sources.downscaled import DownscaledStore
from vsr.data.video import cache as video_cache
from vsr.data.video.cache import VideoCache
from vsr.data.video.reader import decode
from vsr.utils.errors import UserError


def film(file, num_frames=7, size=(48, 64), seed=0):
    """A video of noise that is stored without loss."""
    rng = np.random.default_rng(seed)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, "bgr0"
        for _ in range(num_frames):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file


@pytest.fixture
def films(tmp_path):
    root = tmp_path / "films"
    root.mkdir()
    film(root / "a.mkv")
    film(root / "b [1].mkv", num_frames=5, size=(40, 52), seed=1)
    return root


def data(films, **options):
    return VideoFolderDataset(str(films), num_frame=3, gt_size=32, **options)


def test_every_frame_and_crop_is_that_of_the_decoder(films, tmp_path):
    store = VideoCache(tmp_path / "cache", {"a": films / "a.mkv"})
    expected = [frame for frame, _ in decode(films / "a.mkv")]
    assert store.frames("a") == [f"{number:08d}" for number in range(7)]
    for name, frame in zip(reversed(store.frames("a")), reversed(expected), strict=True):
        assert np.array_equal(store.read(f"a/{name}"), frame)
        assert np.array_equal(store.read(f"a/{name}", Crop(3, 5, 20, 30)), frame[3:23, 5:35])
    assert not store.has("a/00000007") and store.frames("other") == []
    with pytest.raises(FileNotFoundError, match="has no frame 'a/00000007'"):
        store.read("a/00000007")
    with pytest.raises(ValueError, match="too small for"):
        store.read("a/00000000", Crop(40, 0, 20, 20))


def test_a_video_is_decoded_once_and_again_after_a_change(films, monkeypatch):
    data(films)
    (cached,) = (films / "frame_cache").glob("a.*.npy")
    monkeypatch.setattr(video_cache, "decode", lambda video: pytest.fail("decoded again"))
    data(films)
    monkeypatch.undo()
    film(films / "a.mkv", num_frames=9)
    os.utime(films / "a.mkv", ns=(1, 1))
    assert len(data(films).clips[0].frames) == 9
    assert not cached.exists()
    assert len(list((films / "frame_cache").glob("*.npy"))) == 2


@pytest.mark.parametrize("crop", [Crop(0, 0, 5, 6), Crop(3, 7, 5, 6), Crop(7, 10, 5, 6), None])
def test_an_lq_crop_is_that_of_the_whole_reduced_frame(films, tmp_path, crop):
    gt = VideoCache(tmp_path / "cache", {"a": films / "a.mkv"})
    whole = imresize(gt.read("a/00000002"), 1 / 4)
    rows, columns = (
        (slice(None),) * 2 if crop is None else (slice(crop.top, crop.top + 5), slice(crop.left, crop.left + 6))
    )
    assert np.array_equal(DownscaledStore(gt, 4).read("a/00000002", crop), whole[rows, columns])


def test_samples_are_aligned_repeatable_and_of_all_videos(films):
    dataset = data(films, use_hflip=True, use_rot=True, gt_frames="all")
    assert len(dataset) == 12
    for index in (0, 11):
        sample = dataset.read(index, SampleKey(index, 1, 2))
        again = data(films, use_hflip=True, use_rot=True, gt_frames="all").read(index, SampleKey(index, 1, 2))
        assert sample["lq"].shape == (3, 3, 8, 8) and sample["gt"].shape == (3, 3, 32, 32)
        assert np.array_equal(sample["lq"], again["lq"]) and np.array_equal(sample["gt"], again["gt"])
        inside = np.s_[:, :, 2:-2, 2:-2]  # LQ pixels that depend on the crop alone
        reduced = np.stack([imresize(np.ascontiguousarray(frame.transpose(1, 2, 0)), 1 / 4) for frame in sample["gt"]])
        difference = sample["lq"][inside].astype(int) - reduced.transpose(0, 3, 1, 2)[inside]
        assert np.abs(difference).max() <= 1  # of a transposed crop, the passes round in the other order


def cut_film(file):
    """Three shots of 8, 5 and 6 frames, each of one grey level with a little noise."""
    rng = np.random.default_rng(5)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "bgr0"
        for level, count in ((40, 8), (200, 5), (110, 6)):
            for _ in range(count):
                pixels = (level + rng.integers(-3, 4, (48, 64, 3))).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_a_window_lies_within_a_shot(tmp_path):
    root = tmp_path / "cut"
    root.mkdir()
    cut_film(root / "a.mkv")
    dataset = data(root, gt_frames="all")
    assert [len(clip.frames) for clip in dataset.clips] == [8, 5, 6]
    for index in range(len(dataset)):
        sample = dataset.read(index, SampleKey(index))
        levels = sample["gt"].mean((1, 2, 3))
        assert np.ptp(levels) < 5


def test_a_training_runs_from_films(films, tmp_path, train, monkeypatch, clips):
    from training import small_options

    monkeypatch.chdir(tmp_path)
    source = {"type": "VideoFolderDataset", "dataroot": str(films), "num_frame": 3, "gt_size": 32}
    options = small_options(clips, train__total_iter=2)
    options["datasets"] = {"train": {**source, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}}
    assert train(options) == 0
    assert (tmp_path / "experiments/small/models/net_g_2.pth").is_file()


def test_progressive_training_changes_its_windows_and_crops(films):
    dataset = data(films)
    other = dataset.resized(5, 40)
    assert (other.spec.num_frames, other.spec.crop_size) == (5, 40)
    assert other.spec.degradation == dataset.spec.degradation == "BI x4"
    assert other.read(0, SampleKey(0))["gt"].shape == (1, 3, 40, 40)


def test_a_folder_without_videos_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="holds no video that can be read; name a folder of video files"):
        data(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"dataroot: .*nowhere' does not exist"):
        data(tmp_path / "nowhere")


def test_a_video_that_is_too_short_or_too_small_is_refused(films):
    film(films / "c.mkv", num_frames=2)
    with pytest.raises(
        ValueError, match=r"video 'c' has no shot of 3 frames \(2 in all\), but num_frame 3 at interval 1 needs 3"
    ):
        data(films)
    film(films / "c.mkv", num_frames=3, size=(16, 64))
    with pytest.raises(ValueError, match="gt_size 32 is larger than the frames of clip 'c', 16 x 64"):
        data(films)


def test_a_video_that_changes_while_it_is_read_leaves_no_cache(films, monkeypatch):
    def changing(video):
        for number, found in enumerate(decode(video)):
            if number == 3:
                os.utime(video, ns=(number, number))
            yield found

    monkeypatch.setattr(video_cache, "decode", changing)
    with pytest.raises(ValueError, match="was changed while it was read; start again when it is complete"):
        data(films)
    assert not list((films / "frame_cache").glob("*a.*"))


def test_too_little_space_is_said_before_decoding(films, monkeypatch):
    monkeypatch.setattr("vsr.utils.files.free_bytes", lambda folder: 100)
    monkeypatch.setattr(video_cache, "decode", lambda video: pytest.fail("decoded"))
    with pytest.raises(UserError, match="name another folder with frame_cache"):
        data(films)
