import collections
import logging
import shutil
from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from samples import sample_of
from synthetic import make_clips
from torch.utils.data import ConcatDataset, Subset

from preparation.meta_info import write_meta_info
from vsr.data import REDSDataset, SampleKey, TrainSampler
from vsr.data.degrade.imresize import imresize
from vsr.data.lists.meta_info import ClipInfo
from vsr.data.sets.clips import VAL_PARTITIONS
from vsr.data.stream.loader import batches

SMALL = {"gt_size": 32, "num_frame": 3, "val_partition": "none"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("reds"), num_clips=2, num_frames=8, gt_size=(64, 96))


@pytest.fixture
def copy(clips, tmp_path):
    """A set that a test may damage."""
    root = clips.meta.parent
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    return clips._replace(**{name: tmp_path / getattr(clips, name).relative_to(root) for name in ("gt", "lq", "meta")})


def reds(clips, **options):
    return REDSDataset(
        **{"dataroot_gt": clips.gt, "dataroot_lq": clips.lq, "meta_info_file": clips.meta, **SMALL, **options}
    )


def read(root, key):
    return cv2.imread(str(root / f"{key}.png"))[..., ::-1]


def find(part, frame):
    """Returns where ``part`` (c, h, w) in [0, 1] lies in a uint8 frame (h, w, c); None if nowhere."""
    part = np.rint(part.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    difference = cv2.matchTemplate(np.ascontiguousarray(frame), part, cv2.TM_SQDIFF)
    place = np.unravel_index(difference.argmin(), difference.shape)
    h, w = part.shape[:2]
    return place if np.array_equal(frame[place[0] : place[0] + h, place[1] : place[1] + w], part) else None


def test_sample_is_the_same_place_of_consecutive_frames(clips):
    dataset = reds(clips)
    assert len(dataset) == 16
    for item in range(16):
        sample = sample_of(dataset, item)
        assert sample["lq"].shape == (3, 3, 8, 8)
        assert sample["gt"].shape == (1, 3, 32, 32)
        assert sample["lq"].dtype == sample["gt"].dtype == torch.float32
        clip, centre = sample["key"].split("/")
        y, x = find(sample["gt"][0], read(clips.gt, sample["key"]))
        assert y % 4 == x % 4 == 0
        for lq, number in zip(sample["lq"], range(int(centre) - 1, int(centre) + 2), strict=True):
            assert find(lq, read(clips.lq, f"{clip}/{number:08d}")) == (y // 4, x // 4)


def test_key_names_the_frame_that_was_read_even_where_the_window_had_to_move(clips):
    dataset = reds(clips, num_frame=5)
    for item in (0, 1, 6, 7):  # their windows leave the clip
        clip, centre = sample_of(dataset, item)["key"].split("/")
        assert clip == "000"
        assert 2 <= int(centre) <= 5
    assert [sample_of(dataset, item)["key"] for item in (2, 3, 10)] == ["000/00000002", "000/00000003", "001/00000002"]


def test_moved_windows_reach_every_frame_that_has_neighbours(clips):
    keys = {sample_of(reds(clips, num_frame=5), 0, epoch)["key"] for epoch in range(60)}
    assert keys == {f"000/{frame:08d}" for frame in (2, 3, 4, 5)}


def test_draws_beyond_the_length_are_other_crops_of_the_same_item(clips):
    dataset = reds(clips)
    samples = [sample_of(dataset, 3 + 16 * repeat) for repeat in range(6)]
    assert {sample["key"] for sample in samples} == {"000/00000003"}
    assert len({sample["gt"].sum().item() for sample in samples}) > 1


@pytest.mark.parametrize("option", ["use_hflip", "use_rot"])
def test_augmentations_turn_lq_and_gt_alike(clips, option):
    plain, augmented = reds(clips), reds(clips, **{option: True})
    changed = 0
    for draw in range(40):
        before, after = sample_of(plain, draw), sample_of(augmented, draw)
        assert before["key"] == after["key"]
        lq, gt = before["lq"], before["gt"]
        turned = [
            (a(lq), a(gt))
            for a in (
                lambda x: x,
                lambda x: x.flip(-1),
                lambda x: x.flip(-2),
                lambda x: x.mT,
                lambda x: x.flip(-2).mT,
            )
        ]
        matches = [torch.equal(after["lq"], x) and torch.equal(after["gt"], y) for x, y in turned]
        assert any(matches)
        changed += not matches[0]
    assert 10 < changed < 38


def test_random_reverse_plays_half_of_the_windows_backwards(clips):
    plain, reversing = reds(clips), reds(clips, random_reverse=True)
    backwards = 0
    for item in range(16):
        sample = sample_of(reversing, item)
        clip, centre = sample["key"].split("/")
        lq = sample["lq"]
        y, x = find(sample["gt"][0], read(clips.gt, sample["key"]))
        steps = [number for number in (1, -1) if find(lq[2], read(clips.lq, f"{clip}/{int(centre) + number:08d}"))]
        backwards += steps == [-1]
        assert y % 4 == x % 4 == 0
        assert sample_of(plain, item)["lq"].shape == lq.shape
    assert 2 < backwards < 14


def test_intervals_are_all_drawn(clips):
    dataset = reds(clips, interval_list=[1, 2, 3])
    steps = collections.Counter()
    for draw in range(60):
        sample = sample_of(dataset, draw)
        clip, centre = sample["key"].split("/")
        for step in (1, 2, 3):
            frames = [
                read(clips.lq, f"{clip}/{int(centre) + step * side:08d}")
                for side in (-1, 0, 1)
                if 0 <= int(centre) + step * side < 8
            ]
            steps[step] += len(frames) == 3 and all(find(lq, f) for lq, f in zip(sample["lq"], frames, strict=True))
    assert all(steps[step] > 8 for step in (1, 2, 3))


def test_the_same_key_gives_the_same_sample_whatever_was_read_before(clips):
    options = {"use_hflip": True, "use_rot": True, "random_reverse": True, "interval_list": [1, 2]}
    first, second = reds(clips, **options), reds(clips, **options)
    keys = [SampleKey(draw, epoch=2, seed=9) for draw in range(12)]
    torch.manual_seed(1)
    expected = [sample_of(first, *key) for key in keys]
    torch.manual_seed(2)
    for key, sample in reversed(list(zip(keys, expected, strict=True))):
        again = sample_of(second, *key)
        assert again["key"] == sample["key"]
        assert torch.equal(again["lq"], sample["lq"])
        assert torch.equal(again["gt"], sample["gt"])
    assert not torch.equal(sample_of(first, 0, 2, 8)["gt"], expected[0]["gt"])


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(clips, num_workers):
    dataset = reds(clips, use_hflip=True, use_rot=True)

    def stream(workers):
        return list(islice(batches(dataset, TrainSampler(16, 3, seed=5), 4, workers), 5))

    for alone, together in zip(stream(0), stream(num_workers), strict=True):
        assert alone["key"] == together["key"]
        assert torch.equal(alone["lq"], together["lq"])
        assert torch.equal(alone["gt"], together["gt"])


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


def test_lq_clips_one_folder_further_down_are_found_and_reported(clips, caplog):
    with caplog.at_level(logging.INFO):
        dataset = reds(clips, dataroot_lq=clips.lq.parent)
    assert dataset.lq.root == clips.lq
    assert sum("the clips are in" in record.message for record in caplog.records) == 1


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


MIXED = {
    "ConcatDataset": lambda dataset: ConcatDataset([dataset, dataset]),
    "Subset": lambda dataset: Subset(dataset, range(2, 14)),
}


def marks(stream, count):
    """Returns the frame and the pixels of each sample of the first batches."""
    return [
        (key, gt.numpy().tobytes(), lq.numpy().tobytes())
        for batch in islice(stream, count)
        for key, gt, lq in zip(batch["key"], batch["gt"], batch["lq"], strict=True)
    ]


@pytest.mark.parametrize("mix", MIXED)
def test_a_mix_of_data_sets_gives_other_crops_in_every_epoch(clips, mix):
    dataset = MIXED[mix](reds(clips, use_hflip=True, use_rot=True))
    size = len(dataset)
    epochs = [
        set(marks(batches(dataset, TrainSampler(size, start=start), 4), size // 4)) for start in (0, size, 2 * size)
    ]
    assert all(len(epoch) > 3 * size / 4 for epoch in epochs)
    assert len(epochs[0] & epochs[1]) < size / 4 and len(epochs[1] & epochs[2]) < size / 4


@pytest.mark.parametrize("mix", MIXED)
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_mix_of_data_sets_is_the_same_for_any_workers_and_after_a_stop(clips, mix):
    dataset = MIXED[mix](reds(clips, use_hflip=True, use_rot=True, random_reverse=True))
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()
    whole = marks(batches(dataset, TrainSampler(len(dataset), 2, seed=5), 3), 12)
    assert torch.equal(torch.get_rng_state(), state[0]) and np.random.get_state()[1].tolist() == state[1]
    assert marks(batches(dataset, TrainSampler(len(dataset), 2, seed=5), 3, num_workers=2), 12) == whole
    np.random.seed(99)
    resumed = batches(dataset, TrainSampler(len(dataset), 2, seed=5, start=15), 3)
    assert marks(resumed, 7) == whole[15:]


def test_a_sample_read_by_its_index_is_a_training_sample(clips):
    dataset = reds(clips, use_hflip=True, use_rot=True)
    for seed in range(6):
        np.random.seed(seed)
        sample = dataset[3]
        assert sample["key"] == "000/00000003" and sample["gt"].dtype == torch.float32
        assert sample.keys() == {"lq", "gt", "key"}
        np.random.seed(seed)
        assert torch.equal(dataset[3]["gt"], sample["gt"])
    with pytest.raises(IndexError):
        dataset[16]


def test_all_frames_of_a_window_may_have_ground_truth(clips):
    center, every = reds(clips, use_rot=True), reds(clips, use_rot=True, gt_frames="all")
    for draw in range(8):
        one, other = sample_of(center, draw), sample_of(every, draw)
        assert other["gt"].shape == (3, 3, 32, 32)
        assert torch.equal(one["gt"][0], other["gt"][1]) and torch.equal(one["lq"], other["lq"])
        assert not torch.equal(other["gt"][0], other["gt"][1])


def test_samples_without_lq_files_are_ground_truth_only(clips):
    with pytest.raises(ValueError, match=r"dataroot_lq: ~, .* set gt_frames: all"):
        reds(clips, dataroot_lq=None)
    dataset = reds(clips, dataroot_lq=None, gt_frames="all")
    expected = sample_of(reds(clips, gt_frames="all"), 5)
    sample = sample_of(dataset, 5)
    assert "lq" not in sample and not dataset.spec.has_lq
    assert torch.equal(sample["gt"], expected["gt"])
