"""The files of a training set: lists, partitions, names, and frames that are missing or damaged."""

import shutil

import cv2
import numpy as np
import pytest
import torch
from reds_set import find, read, reds
from samples import sample_of
from synthetic import make_clips

from preparation.meta_info import write_meta_info
from vsr.data import SampleKey
from vsr.data.degrade.imresize import imresize
from vsr.data.lists.meta_info import ClipInfo
from vsr.data.sets.clips import VAL_PARTITIONS


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("reds"), num_clips=2, num_frames=8, gt_size=(64, 96))


@pytest.fixture
def copy(clips, tmp_path):
    """A set that a test may damage."""
    root = clips.meta.parent
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    return clips._replace(**{name: tmp_path / getattr(clips, name).relative_to(root) for name in ("gt", "lq", "meta")})


def test_meta_file_says_how_many_frames_a_clip_has(clips, tmp_path):
    write_meta_info(tmp_path / "meta.txt", [ClipInfo("000", 4), ClipInfo("001", 8)])
    dataset = reds(clips, meta_info_file=tmp_path / "meta.txt")
    assert len(dataset) == 12
    assert {sample_of(dataset, item, epoch)["key"] for item in range(4) for epoch in range(20)} == {
        "000/00000001",
        "000/00000002",
    }


def test_partitions_leave_their_clips_out(tmp_path):
    made = make_clips(tmp_path, num_clips=1, num_frames=3, gt_size=(32, 32))
    for name in ("001", "011", "020", "240", "269", "270"):
        for root in (made.gt, made.lq):
            shutil.copytree(root / "000", root / name)
    names = ["000", "001", "011", "020", "240", "269", "270"]
    write_meta_info(made.meta, [ClipInfo(name, 3) for name in names])
    kept = {part: [clip.name for clip in reds(made, val_partition=part).clips] for part in VAL_PARTITIONS}
    assert kept["REDS4"] == ["001", "240", "269", "270"]
    assert kept["official"] == ["000", "001", "011", "020", "270"]
    assert kept["none"] == names


def test_lq_clips_one_folder_further_down_are_found_and_reported(clips):
    dataset = reds(clips, dataroot_lq=clips.lq.parent)
    assert dataset.lq.root == clips.lq
    assert dataset.spec.notes == (f"16 samples of 2 clips, from '{clips.gt}' and '{clips.lq}'",)


def test_a_list_of_frames_of_another_size_is_doubted_once(clips, tmp_path, caplog):
    write_meta_info(tmp_path / "meta.txt", [ClipInfo("000", 8, (720, 1280, 3)), ClipInfo("001", 8, (720, 1280, 3))])
    reds(clips, meta_info_file=tmp_path / "meta.txt")
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "gives the frames of clip '000' as 720 x 1280, but they are 64 x 96" in warning
    caplog.clear()
    reds(clips)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_full_frame_crops_and_other_scales(tmp_path):
    made = make_clips(tmp_path, num_clips=1, num_frames=3, gt_size=(36, 48), scale=3)
    sample = sample_of(reds(made, scale=3, gt_size=36), 1)
    assert sample["lq"].shape == (3, 3, 12, 12)
    gt = np.rint(sample["gt"][0].numpy().transpose(1, 2, 0) * 255)
    assert find(sample["gt"][0], read(made.gt, sample["key"])) is not None
    assert gt.shape == (36, 36, 3)
    assert imresize(gt, 1 / 3).shape == (12, 12, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frame": 4}, "num_frame 4 is not odd"),
        ({"num_frame": 0}, "num_frame 0 is not odd"),
        ({"gt_size": 30}, "gt_size 30 is not a multiple of scale 4; nearest: 32"),
        ({"gt_size": 2}, "gt_size 2 is not a multiple of scale 4; nearest: 4"),
        ({"gt_size": 68}, "gt_size 68 is larger than the frames of clip '000', 64 x 96"),
        ({"interval_list": []}, r"interval_list is empty; name a distance, \[1\], or leave it out"),
        ({"num_frame": 9}, "clip '000' has 8 frames, but num_frame 9 at interval 1 needs 9"),
        ({"interval_list": [1, 4]}, "num_frame 3 at interval 4 needs 9"),
        ({"dataroot_flow": "flow"}, "dataroot_flow is not supported"),
        ({"scale": 2, "gt_size": 32}, "GT is not 2 x LQ: .* is 64 x 96 and .* is 16 x 24"),
    ],
)
def test_options_that_do_not_fit_are_named(clips, options, message):
    with pytest.raises(ValueError, match=message):
        reds(clips, **options)


def test_a_set_that_is_all_validation_says_so(tmp_path):
    made = make_clips(tmp_path, num_clips=1, num_frames=3, gt_size=(32, 32))
    with pytest.raises(ValueError, match=r"every clip .* is in val_partition REDS4.*set val_partition: none"):
        reds(made, val_partition="REDS4")


@pytest.mark.parametrize("option", ["dataroot_gt", "dataroot_lq"])
def test_missing_root_says_how_to_get_reds(clips, tmp_path, option):
    with pytest.raises(
        FileNotFoundError, match=f"{option}: folder '.*none' does not exist.*seungjunnah.*prepare_reds.py"
    ):
        reds(clips, **{option: tmp_path / "none"})


@pytest.mark.parametrize("side", ["gt", "lq"])
@pytest.mark.parametrize("frame", ["00000000", "00000004", "00000007"])
def test_missing_clips_and_frames_are_named(copy, side, frame):
    root = getattr(copy, side)
    (root / "001" / f"{frame}.png").unlink()
    message = rf"lacks 1 of the 8 frames of clip '001' that the meta file lists: {frame} \(it has 0"
    with pytest.raises(FileNotFoundError, match=message):
        reds(copy)
    shutil.rmtree(root / "001")
    for on_bad_frame in ("error", "skip"):  # a whole clip is no bad frame
        with pytest.raises(
            FileNotFoundError, match=r"lacks 8 of the 8 frames of clip '001' .*: 00000000, .*no such clip"
        ):
            reds(copy, on_bad_frame=on_bad_frame)


@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_frames_that_are_bad_from_the_start_can_be_skipped(copy, caplog, damage):
    for file in (copy.gt / "000" / "00000000.png", copy.lq / "000" / "00000001.png"):
        file.unlink() if damage == "missing" else file.write_bytes(b"")
    with pytest.raises(
        FileNotFoundError if damage == "missing" else ValueError, match=r"00000000|0000000\.png is empty"
    ):
        reds(copy)
    dataset = reds(copy, on_bad_frame="skip")
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (2 if damage == "missing" else 0)
    assert all("on_bad_frame: skip: " in message and "lacks 1 of the 8 frames" in message for message in warnings)
    keys = {sample_of(dataset, item, epoch)["key"] for item in range(8) for epoch in range(5)}
    assert not keys & {"000/00000000", "000/00000001", "000/00000002"}  # 2 needs the LQ frame 1
    assert {"000/00000003", "000/00000006"} <= keys


def test_a_frame_that_is_damaged_or_missing_later_is_named_when_it_is_read(copy):
    dataset = reds(copy)
    file = copy.lq / "000" / "00000004.png"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"000/00000004\.png is truncated"):
        dataset[4]
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"000/00000004\.png' does not exist"):
        dataset[4]
    assert dataset[12]["lq"].shape == (3, 3, 8, 8)


def test_frames_of_another_size_within_a_clip_are_named(copy):
    cv2.imwrite(str(copy.gt / "000" / "00000004.png"), np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match=r"00000004\.png is 16 x 16, not 64 x 96 as the others"):
        reds(copy).read(4, SampleKey(4))


def test_construction_reads_only_headers(clips, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded a frame"))
    reds(clips)


@pytest.mark.parametrize("side", ["gt", "lq"])
def test_a_frame_of_another_size_is_named_not_cropped_elsewhere(copy, side):
    h, w = (128, 192) if side == "gt" else (32, 48)
    dataset = reds(copy)
    cv2.imwrite(str(getattr(copy, side) / "001" / "00000003.png"), np.zeros((h, w, 3), np.uint8))
    with pytest.raises(ValueError, match=rf"001/00000003.png is {h} x {w}, not {h // 2} x {w // 2} as the others"):
        dataset[8 + 3]
    skipping = reds(copy, on_bad_frame="skip")
    assert sample_of(skipping, 8 + 3)["key"] != "001/00000003"


def test_a_root_in_the_home_folder_is_found_and_an_empty_one_is_refused(clips, monkeypatch):
    monkeypatch.setenv("HOME", str(clips.meta.parent))
    dataset = reds(
        clips, dataroot_gt="~/train_sharp", dataroot_lq="~/train_sharp_bicubic", meta_info_file="~/meta_info.txt"
    )
    assert dataset.gt.root == clips.gt
    for option in ("dataroot_gt", "dataroot_lq"):
        with pytest.raises(ValueError, match=f"{option} is empty; name a folder"):
            reds(clips, **{option: ""})


def test_frames_of_any_names_are_read_in_their_order(copy):
    """As VideoTestDataset reads them; REDS's own names still say which frame is missing."""
    expected = sample_of(reds(copy), 11, 0, 3)
    for clip in (folder for root in (copy.gt, copy.lq) for folder in root.iterdir()):
        for number, file in enumerate(sorted(clip.iterdir())):
            file.rename(clip / f"frame_{number + 1}.png")
    sample = sample_of(reds(copy), 11, 0, 3)
    assert sample["key"].split("/")[1].startswith("frame_")
    assert torch.equal(sample["lq"], expected["lq"]) and torch.equal(sample["gt"], expected["gt"])
    (copy.lq / "001" / "frame_3.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of the 8 frames of clip '001' .*: frame_3 \(it has frame_1"):
        reds(copy)
