import shutil
from functools import partial

import cv2
import numpy as np
import pytest
from synthetic import make_clips, moving_texture

from preparation.meta_info import write_meta_info
from vsr.contracts import Spec
from vsr.data import REDSDataset, VideoTestDataset, VideoTestVimeo90KDataset, generate_frame_indices
from vsr.data.degrade.imresize import imresize
from vsr.data.lists.meta_info import ClipInfo
from vsr.evaluation.report import describe_protocols
from vsr.evaluation.restore import steps_of
from vsr.metrics import calculate_psnr

# What BasicSR 1.4.2's function of the same name returns.
WINDOWS = {
    ("replicate", 0, 100, 5): [0, 0, 0, 1, 2],
    ("reflection", 0, 100, 5): [2, 1, 0, 1, 2],
    ("reflection_circle", 0, 100, 5): [4, 3, 0, 1, 2],
    ("circle", 0, 100, 5): [3, 4, 0, 1, 2],
    ("replicate", 1, 100, 7): [0, 0, 0, 1, 2, 3, 4],
    ("reflection", 1, 100, 7): [2, 1, 0, 1, 2, 3, 4],
    ("reflection_circle", 1, 100, 7): [6, 5, 0, 1, 2, 3, 4],
    ("circle", 1, 100, 7): [5, 6, 0, 1, 2, 3, 4],
    ("replicate", 99, 100, 5): [97, 98, 99, 99, 99],
    ("reflection", 99, 100, 5): [97, 98, 99, 98, 97],
    ("reflection_circle", 99, 100, 5): [97, 98, 99, 96, 95],
    ("circle", 99, 100, 5): [97, 98, 99, 95, 96],
    ("reflection_circle", 98, 100, 5): [96, 97, 98, 99, 95],
    ("circle", 50, 100, 5): [48, 49, 50, 51, 52],
    ("reflection_circle", 4, 5, 1): [4],
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("test set"), num_clips=2, num_frames=6, gt_size=(32, 48))


@pytest.fixture
def copy(clips, tmp_path):
    """A set that a test may damage."""
    shutil.copytree(clips.meta.parent, tmp_path, dirs_exist_ok=True)
    root = clips.meta.parent
    return clips._replace(**{name: tmp_path / getattr(clips, name).relative_to(root) for name in ("gt", "lq", "meta")})


def frame(root, clip, number):
    return cv2.imread(str(root / clip / f"{number:08d}.png"))[..., ::-1]


def windows(dataset, num_frames):
    """The network's windows, (t, h, w, 3), of every frame of a set, in order."""
    steps = list(steps_of(Spec(num_frames=num_frames), dataset))
    return [np.stack([step.clip.lq(index) for index in step.reads]) for step in steps]


def keys(dataset):
    return [f"{clip.name}/{clip.frames[index]}" for clip in dataset for index in clip.targets]


@pytest.mark.parametrize(("padding", "centre", "length", "size"), WINDOWS)
def test_windows_are_basicsr_s(padding, centre, length, size):
    assert generate_frame_indices(centre, length, size, padding=padding) == WINDOWS[padding, centre, length, size]


@pytest.mark.parametrize("padding", ["replicate", "reflection", "reflection_circle", "circle"])
def test_windows_stay_inside_clips_at_least_as_long(padding):
    for size in (1, 3, 5, 7):
        for length in range(size, size + 4):
            for centre in range(length):
                window = generate_frame_indices(centre, length, size, padding)
                assert window[size // 2] == centre
                assert all(0 <= index < length for index in window)


def test_even_windows_and_unknown_paddings_are_refused():
    with pytest.raises(ValueError, match="num_frame 4 is not odd"):
        generate_frame_indices(0, 10, 4)
    with pytest.raises(ValueError, match="padding 'mirror' is unknown; known: replicate"):
        generate_frame_indices(0, 10, 5, padding="mirror")


@pytest.mark.parametrize("cache_data", [False, True])
def test_every_frame_of_every_clip_in_order(clips, cache_data):
    dataset = VideoTestDataset(clips.lq, clips.gt, num_frame=5, cache_data=cache_data)
    assert [(clip.name, len(clip.frames), clip.targets) for clip in dataset] == [(c, 6, range(6)) for c in clips.clips]
    assert keys(dataset) == [f"{clip}/{number:08d}" for clip in clips.clips for number in range(6)]
    for _ in range(2):
        for item, window in enumerate(windows(dataset, 5)):
            clip, centre = clips.clips[item // 6], item % 6
            indices = generate_frame_indices(centre, 6, 5, "reflection_circle")
            np.testing.assert_array_equal(window, [frame(clips.lq, clip, index) for index in indices])
            np.testing.assert_array_equal(dataset[item // 6].gt(centre), frame(clips.gt, clip, centre))
    with pytest.raises(IndexError):
        dataset[2]
    assert len(dataset) == len(list(dataset)) == 2


def test_kept_frames_are_decoded_once(clips, monkeypatch):
    decoded = []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *args: decoded.append(1) or decode(*args))
    for cache_data, expected in ((True, 2), (False, 4)):
        clip = VideoTestDataset(clips.lq, clips.gt, cache_data=cache_data)[0]
        decoded.clear()
        for _ in range(2):
            clip.lq(3), clip.gt(3)
        assert len(decoded) == expected


def test_without_ground_truth_there_is_no_gt(clips):
    dataset = VideoTestDataset(clips.lq)
    assert dataset[0].gt is None and not dataset.spec.has_gt


def test_second_column_takes_the_first_frames_and_windows_stay_inside_them(clips, tmp_path):
    write_meta_info(tmp_path / "meta.txt", [ClipInfo("001", 3)])
    dataset = VideoTestDataset(clips.lq, clips.gt, str(tmp_path / "meta.txt"), num_frame=3)
    assert [(clip.name, len(clip.targets)) for clip in dataset] == [("001", 3)]
    # Frame 3 exists, but reflection_circle looks inside the three.
    np.testing.assert_array_equal(windows(dataset, 3)[2], [frame(clips.lq, "001", index) for index in (1, 2, 0)])


@pytest.mark.parametrize("prefix", ["", "frame_"])
def test_a_fourth_column_is_the_number_of_the_first_frame_as_in_training(tmp_path, prefix):
    clips = make_clips(tmp_path, num_clips=1, num_frames=9, gt_size=(32, 48))
    clips.meta.write_text("000 3 (32,48,3) 00000004\n")
    training = REDSDataset(clips.gt, clips.lq, clips.meta, num_frame=3, gt_size=32, val_partition="none")
    assert training[1]["key"] == "000/00000005"
    for file in (*clips.gt.rglob("*.png"), *clips.lq.rglob("*.png")):
        file.rename(file.with_name(f"{prefix}{file.name}"))
    dataset = VideoTestDataset(clips.lq, clips.gt, clips.meta, num_frame=3)
    assert keys(dataset) == [f"000/{prefix}{number:08d}" for number in (4, 5, 6)]


def test_a_start_that_is_not_there_or_too_late_is_named(clips, tmp_path):
    meta = tmp_path / "meta.txt"
    meta.write_text("000 3 (32,48,3) 40")
    with pytest.raises(
        ValueError, match=r"clip '000' has no frame 40 in .* \(00000000 to 00000005\), but the meta file"
    ):
        VideoTestDataset(clips.lq, clips.gt, meta)
    meta.write_text("000 3 (32,48,3) 4")
    with pytest.raises(ValueError, match=r"clip '000' has 2 frames from number 4 on in .* but the meta file lists 3"):
        VideoTestDataset(clips.lq, clips.gt, meta)


@pytest.mark.parametrize("padding", ["replicate", "reflection", "reflection_circle", "circle"])
def test_the_protocol_names_the_padding_of_clips_shorter_than_the_window(clips, tmp_path, padding):
    def name(*num_frames):
        lines = [ClipInfo(f"{number:03d}", frames) for number, frames in enumerate(num_frames)]
        write_meta_info(tmp_path / "meta.txt", lines)
        dataset = VideoTestDataset(clips.lq, None, tmp_path / "meta.txt", num_frame=5, padding=padding)
        metrics = {"psnr": partial(calculate_psnr, crop_border=0)}
        return describe_protocols("set", list(dataset), Spec(num_frames=5, scale=4), metrics, None)["psnr"]["name"]

    whole = "" if padding == "reflection_circle" else f"+{padding}"
    assert name(6, 5) == f"set-rgb{whole}"
    assert name(6, 4) == ("set-rgb+replicate" if padding == "replicate" else f"set-rgb+{padding}+replicate")
    assert name(3, 4) == "set-rgb+replicate"


def test_a_clip_shorter_than_the_window_repeats_its_ends(clips, tmp_path):
    write_meta_info(tmp_path / "meta.txt", [ClipInfo("000", 2)])
    dataset = VideoTestDataset(clips.lq, None, tmp_path / "meta.txt", num_frame=5)
    np.testing.assert_array_equal(windows(dataset, 5)[0], [frame(clips.lq, "000", index) for index in (0, 0, 0, 1, 1)])


def test_any_names_lengths_and_sizes(tmp_path):
    for clip, (h, w), names in (("beach", (16, 24), ["im1", "im2", "im10"]), ("city night", (8, 12), ["a"])):
        for side, factor in (("gt", 4), ("lq", 1)):
            (tmp_path / side / clip).mkdir(parents=True)
            for name, image in zip(names, moving_texture(len(names), (h * factor, w * factor), 0), strict=True):
                cv2.imwrite(str(tmp_path / side / clip / f"{name}.png"), image)
    dataset = VideoTestDataset(tmp_path / "lq", tmp_path / "gt", num_frame=1)
    assert keys(dataset) == ["beach/im1", "beach/im2", "beach/im10", "city night/a"]
    assert dataset[1].gt(0).shape == (32, 48, 3)


def test_sides_with_different_names_pair_by_order(copy):
    for file in sorted(copy.gt.glob("*/*.png")):
        file.rename(file.with_name(f"truth{int(file.stem):02d}.png"))
    clip = VideoTestDataset(copy.lq, copy.gt)[0]
    assert clip.frames[3] == "00000003"
    np.testing.assert_array_equal(clip.gt(3), cv2.imread(str(copy.gt / "000" / "truth03.png"))[..., ::-1])


def test_lq_clips_one_folder_further_down_are_found(clips):
    for meta in (None, clips.meta):
        dataset = VideoTestDataset(clips.lq.parent, clips.gt, meta)
        np.testing.assert_array_equal(dataset[1].lq(2), frame(clips.lq, "001", 2))


def test_no_clip_may_be_called_like_the_mean(copy):
    (copy.lq / "001").rename(copy.lq / "mean")
    with pytest.raises(ValueError, match="a clip is called 'mean', as the mean over all is in the results: rename it"):
        VideoTestDataset(copy.lq)


def test_missing_roots_and_clips_are_named(clips, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataroot_lq: folder '.*none' does not exist"):
        VideoTestDataset(tmp_path / "none", clips.gt)
    with pytest.raises(FileNotFoundError, match=r"dataroot_gt: folder '.*none' does not exist"):
        VideoTestDataset(clips.lq, tmp_path / "none")
    with pytest.raises(ValueError, match="holds no clips"):
        VideoTestDataset(tmp_path)
    write_meta_info(tmp_path / "meta.txt", [ClipInfo("000", 6), ClipInfo("007", 6)])
    with pytest.raises(FileNotFoundError, match="clip '007' has no frames in"):
        VideoTestDataset(clips.lq, clips.gt, tmp_path / "meta.txt")
    write_meta_info(tmp_path / "meta.txt", [ClipInfo("000", 7)])
    with pytest.raises(ValueError, match=r"clip '000' has 6 frames in .*, but the meta file lists 7"):
        VideoTestDataset(clips.lq, clips.gt, tmp_path / "meta.txt")


def test_sides_that_do_not_match_are_named(copy):
    (copy.gt / "000" / "00000003.png").unlink()
    with pytest.raises(ValueError, match=r"clip '000' has 5 GT frames .* 6 LQ frames .* only one side has 00000003"):
        VideoTestDataset(copy.lq, copy.gt)
    (copy.lq / "000" / "00000005.png").unlink()  # now the numbers agree, the frames do not
    with pytest.raises(ValueError, match="only one side has 00000003, 00000005"):
        VideoTestDataset(copy.lq, copy.gt)


def test_other_numbers_are_other_frames(copy):
    """And not another naming scheme; leading zeros are."""
    for file in sorted(copy.gt.glob("*/*.png"), reverse=True):
        file.rename(file.with_name(f"{int(file.stem)}.png"))
    assert VideoTestDataset(copy.lq, copy.gt)[0].gt(1).shape == (32, 48, 3)
    for file in sorted(copy.gt.glob("*/*.png"), reverse=True):
        file.rename(file.with_name(f"{int(file.stem) + 8:08d}.png"))
    with pytest.raises(ValueError, match=r"6 GT frames .* 6 LQ frames .* do not match"):
        VideoTestDataset(copy.lq, copy.gt)


def test_ground_truth_that_is_not_tested_is_reported(copy, caplog):
    shutil.rmtree(copy.lq / "001")
    assert len(VideoTestDataset(copy.lq, copy.gt)) == 1
    assert "1 clips of dataroot_gt" in caplog.text and "such as '001': they are not tested" in caplog.text


def test_sizes_that_do_not_match_are_named(copy):
    with pytest.raises(ValueError, match=r"GT is not 2 x LQ: .* is 32 x 48 and .* is 8 x 12; check scale"):
        VideoTestDataset(copy.lq, copy.gt, scale=2)


def test_an_empty_root_is_refused(copy):
    with pytest.raises(ValueError, match="dataroot_gt is empty; name a folder"):
        VideoTestDataset(copy.lq, "")


def test_a_truncated_frame_is_named(copy):
    file = copy.lq / "001" / "00000002.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"001/00000002\.png is truncated"):
        VideoTestDataset(copy.lq, copy.gt)[1].lq(2)


@pytest.fixture
def septuplets(tmp_path):
    names = ["00001/0001", "00001/0002"]
    for index, name in enumerate(names):
        for number, image in enumerate(moving_texture(7, (32, 48), index), start=1):
            for side, pixels in (("gt", image), ("lq", imresize(image, 0.25))):
                (tmp_path / side / name).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(tmp_path / side / name / f"im{number}.png"), pixels)
    write_meta_info(tmp_path / "meta.txt", [ClipInfo(name, 7, (32, 48, 3)) for name in names])
    return tmp_path


@pytest.mark.parametrize(("num_frame", "numbers"), [(7, range(1, 8)), (5, range(2, 7)), (1, [4])])
def test_vimeo_reads_the_frames_around_im4(septuplets, num_frame, numbers):
    root = septuplets
    dataset = VideoTestVimeo90KDataset(root / "gt", root / "lq", root / "meta.txt", num_frame=num_frame)
    assert len(dataset) == 2 and keys(dataset) == ["00001/0001/im4", "00001/0002/im4"]

    def image(side, number):
        return cv2.imread(str(root / side / "00001" / "0002" / f"im{number}.png"))[..., ::-1]

    np.testing.assert_array_equal(windows(dataset, num_frame)[1], [image("lq", number) for number in numbers])
    np.testing.assert_array_equal(dataset[1].gt(3), image("gt", 4))


def test_vimeo_names_what_is_wrong(septuplets):
    root = septuplets
    with pytest.raises(ValueError, match="num_frame 9 is more than the 7 frames"):
        VideoTestVimeo90KDataset(root / "gt", root / "lq", root / "meta.txt", num_frame=9)
    with pytest.raises(ValueError, match="num_frame 4 is not odd"):
        VideoTestVimeo90KDataset(root / "gt", root / "lq", root / "meta.txt", num_frame=4)
    (root / "lq" / "00001" / "0002" / "im4.png").unlink()
    with pytest.raises(FileNotFoundError, match="has no frame '00001/0002/im4'"):
        VideoTestVimeo90KDataset(root / "gt", root / "lq", root / "meta.txt")
