"""Sets as people have them: other formats, one folder of frames, sides of any length, hand-written lists."""

import shutil

import cv2
import numpy as np
import pytest
from load_script import load_script
from options_files import write
from own_sets import sides, training, warnings
from samples import sample_of
from synthetic import make_clips, moving_texture
from training import small_options
from videos import make_clip, make_humaneva, write_video

from vsr import config
from vsr.contracts import SampleKey
from vsr.data import HumanEvaDataset, VideoTestDataset, VideoTestVimeo90KDataset, Vimeo90KDataset

generate_meta_info = load_script("generate_meta_info")


@pytest.fixture
def clips(tmp_path):
    return make_clips(tmp_path / "set", num_clips=2, num_frames=8, gt_size=(48, 64))


# files of other kinds


def test_what_the_decoder_reads_is_read_whatever_its_suffix(clips, caplog):
    expected = sample_of(training(clips), 11)
    for side in sides(clips):
        for number, file in enumerate(sorted((side / "001").iterdir())):
            if number % 2:
                ok, ppm = cv2.imencode(".pnm", cv2.imread(str(file)))
                file.unlink()
                assert ok
                file.with_suffix(".pnm" if number % 4 == 1 else "").write_bytes(ppm.tobytes())
    for dataset in (training(clips), training(clips, val_partition="none", gt_frames="all")):
        assert len(dataset) == 16
    np.testing.assert_array_equal(sample_of(training(clips), 11)["gt"], expected["gt"])
    assert len(VideoTestDataset(clips.lq, clips.gt)[1].frames) == 8
    assert warnings(caplog) == []


def test_files_that_are_left_out_are_counted_with_an_example(clips, caplog, capsys, tmp_path):
    (clips.lq / "000" / "00000008.exr").write_bytes(b"\x76\x2f\x31\x01" + bytes(100))
    (clips.lq / "001" / "00000008").write_bytes(b"raw")
    (clips.lq / "001" / ".hidden").write_bytes(b"")
    (clips.lq / "002").mkdir()
    (clips.lq / "002" / "00000000.dng").write_bytes(b"raw")
    cv2.imwrite(str(clips.lq / "preview.png"), np.zeros((8, 8, 3), np.uint8))
    (clips.lq / "degradation.txt").write_text("BI x4")
    said = f"4 files left out, such as '{clips.lq / '000' / '00000008.exr'}'"
    assert len(VideoTestDataset(clips.lq, clips.gt)) == 2
    assert any(text.startswith(said) for text in warnings(caplog))
    caplog.clear()
    training(clips)
    assert any(text.startswith("2 files left out, such as") for text in warnings(caplog))
    caplog.clear()
    generate_meta_info.main(["--from", str(clips.lq), "--to", str(tmp_path / "list.txt")])
    assert any(text.startswith(said) for text in warnings(caplog))


def test_next_frame_data_counts_what_is_left_out_too(tmp_path, caplog):
    root = make_humaneva(tmp_path / "set")
    folder = next((root / "image").iterdir())
    (folder / "x.dng").write_bytes(b"raw")
    (root / "list.csv").write_text(f'"{folder.name}"\n')
    HumanEvaDataset(str(root), str(root / "list.csv"), input_size=1, frame_interval=1)
    assert warnings(caplog) == [
        f"1 file left out, such as '{folder / 'x.dng'}': no image that can be read, or none of a clip"
    ]


# one folder of frames


@pytest.mark.parametrize("kind", ["flat", "in X4"])
def test_a_folder_of_frames_is_a_clip(clips, tmp_path, kind):
    flat = {side: tmp_path / name for side, name in zip(("gt", "lq"), ("truth", "small"), strict=True)}
    shutil.copytree(clips.gt / "000", flat["gt"])
    shutil.copytree(clips.lq / "000", flat["lq"] / "X4" if kind == "in X4" else flat["lq"])
    (flat["lq"] / "degradation.txt").write_text("BI x4")
    test, expected = VideoTestDataset(flat["lq"], flat["gt"]), VideoTestDataset(clips.lq, clips.gt)
    assert len(test) == 1 and test[0].name == ("X4" if kind == "in X4" else "small")
    for side in ("lq", "gt"):
        np.testing.assert_array_equal(getattr(test[0], side)(5), getattr(expected[0], side)(5))
    meta = tmp_path / "list.txt"
    generate_meta_info.main(["--from", str(flat["gt"]), "--to", str(meta)])
    assert meta.read_text() == "truth 8 (48,64,3)\n"
    if kind == "flat":
        dataset = training(clips, dataroot_gt=flat["gt"], dataroot_lq=flat["lq"], meta_info_file=meta)
        sample, other = sample_of(dataset, 4), sample_of(training(clips), 4)
        assert sample["key"] == "truth/" + other["key"][4:]
        np.testing.assert_array_equal(sample["lq"], other["lq"])
        np.testing.assert_array_equal(sample["gt"], other["gt"])
        (clip,) = VideoTestDataset(flat["lq"], flat["gt"], meta)
        assert clip.name == "truth" and len(clip.frames) == 8
    meta.write_text("truth\nother\n")
    with pytest.raises(FileNotFoundError, match="clip 'truth' has no frames"):
        VideoTestDataset(flat["lq"], flat["gt"], meta)


def test_a_folder_of_frames_is_a_clip_of_next_frame_data_too(tmp_path):
    folder = make_clip(tmp_path / "mine", 6)
    (tmp_path / "list.csv").write_text("walk\n")
    options = {"input_size": 1, "frame_interval": 1, "width": 8, "height": 8}
    assert len(HumanEvaDataset(str(folder), str(tmp_path / "list.csv"), **options)) == 4
    (tmp_path / "list.csv").write_text("walk\nrun\n")
    with pytest.raises(FileNotFoundError, match="names clip 'walk'"):
        HumanEvaDataset(str(folder), str(tmp_path / "list.csv"), **options)


# sides that are no multiples of the scale


def enlarge(folder, right=3, bottom=1):
    for file in folder.rglob("*.png"):
        cv2.imwrite(str(file), cv2.copyMakeBorder(cv2.imread(str(file)), 0, bottom, 0, right, cv2.BORDER_REFLECT))


def test_ground_truth_is_cropped_to_multiples_of_the_scale(clips, tmp_path):
    before, expected = VideoTestDataset(clips.lq, clips.gt)[1].gt(2), sample_of(training(clips), 9)
    assert training(clips).spec.notes[1:] == VideoTestDataset(clips.lq, clips.gt).spec.notes[1:] == ()
    enlarge(clips.gt)
    test, said = VideoTestDataset(clips.lq, clips.gt, cache_data=True), "is cropped at the bottom and right: '000' from"
    np.testing.assert_array_equal(test[1].gt(2), before)
    note = f"GT of 2 clips {said} 49 x 67 to 48 x 64, for scale 4"
    assert test.spec.notes[1:] == training(clips).spec.notes[1:] == (note,)
    notes = [note for note in config.load(write(tmp_path, small_options(clips))).notes if said in note]
    assert [note.partition(": ")[0] for note in notes] == ["datasets.train", "datasets.val"]
    sample = sample_of(training(clips), 9)
    np.testing.assert_array_equal(sample["gt"], expected["gt"])
    np.testing.assert_array_equal(sample["lq"], expected["lq"])
    enlarge(clips.gt, bottom=4)
    with pytest.raises(ValueError, match=r"GT is not 4 x LQ: .* is 53 x 70 and .* is 12 x 16"):
        training(clips)
    with pytest.raises(ValueError, match="GT is not 4 x LQ"):
        VideoTestDataset(clips.lq, clips.gt)


@pytest.fixture
def septuplets(tmp_path):
    for index in range(2):
        for number, image in enumerate(moving_texture(7, (32, 48), index), start=1):
            for side, pixels in (("gt", image), ("lq", cv2.resize(image, (12, 8)))):
                folder = tmp_path / side / "00001" / f"{index:04d}"
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f"im{number}.png"), pixels)
    (tmp_path / "list.txt").write_text("00001/0000\n00001/0001  # the second\n\n# none more\n")
    return tmp_path / "gt", tmp_path / "lq", tmp_path / "list.txt"


def test_septuplets_have_lists_of_names_and_are_cropped_too(septuplets):
    before = VideoTestVimeo90KDataset(*septuplets)[1].gt(3)
    enlarge(septuplets[0])
    np.testing.assert_array_equal(VideoTestVimeo90KDataset(*septuplets)[1].gt(3), before)
    dataset = Vimeo90KDataset(*septuplets, gt_size=16)
    assert len(dataset) == 2 and dataset.read(1, SampleKey(1))["gt"].shape == (1, 3, 16, 16)


# lists


def test_a_clip_listed_twice_is_trained_twice_and_tested_once(clips, caplog):
    clips.meta.write_text("000 8 (48,64,3)\n001\n000 8 (48,64,3)\n")
    dataset = training(clips)
    assert len(dataset) == 24 and sample_of(dataset, 16)["key"].startswith("000/")
    assert [clip.name for clip in VideoTestDataset(clips.lq, clips.gt, clips.meta)] == ["000", "001"]
    assert f"'{clips.meta}' lists clip '000' twice: it is tested once" in warnings(caplog)
    clips.meta.write_text("000 8\n000 4\n")
    with pytest.raises(ValueError, match="lists clip '000' twice, with different frames"):
        VideoTestDataset(clips.lq, clips.gt, clips.meta)


# frames and ground truth that belong together


@pytest.mark.parametrize("side", ["lq", "gt"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_frame_of_another_size_is_found_when_a_test_set_is_opened(clips, side, suffix):
    folder = getattr(clips, side) / "001"
    for file in folder.iterdir():
        frame = cv2.imread(str(file))
        file.unlink()
        frame = frame[:-4] if file.stem == "00000005" else frame
        cv2.imwrite(str(file.with_suffix(suffix)), frame)
    with pytest.raises(ValueError, match=r"frame '00000005' of clip '001' in .* is \d+ x \d+, but '00000000' is"):
        VideoTestDataset(clips.lq, clips.gt)


def test_a_frame_of_another_size_in_a_septuplet_is_found_when_the_set_is_opened(septuplets):
    cv2.imwrite(str(septuplets[1] / "00001" / "0001" / "im2.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"frame 'im2' of clip '00001/0001' in .* is 8 x 8, but 'im1' is 8 x 12"):
        VideoTestVimeo90KDataset(*septuplets)


@pytest.mark.parametrize("first", [0, 1, 7])
def test_frames_of_a_video_pair_with_images_by_order(clips, tmp_path, first):
    frames = np.stack([cv2.imread(str(file))[..., ::-1] for file in sorted((clips.gt / "000").iterdir())])
    (tmp_path / "gt").mkdir()
    write_video(tmp_path / "gt" / "000.mkv", frames, "ffv1", "bgr0")
    for number, file in reversed(list(enumerate(sorted((clips.lq / "000").iterdir())))):
        file.rename(file.with_name(f"{number + first:04d}.png"))
    shutil.rmtree(clips.lq / "001")
    (clip,) = VideoTestDataset(clips.lq, tmp_path / "gt")
    np.testing.assert_array_equal(clip.gt(3), frames[3])
    (clips.lq / "000" / f"{first:04d}.png").unlink()
    with pytest.raises(ValueError, match=r"8 GT frames in .* and 7 LQ frames in .* that do not match"):
        VideoTestDataset(clips.lq, tmp_path / "gt")
