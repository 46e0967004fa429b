"""Training samples of REDS: windows, crops, augmentations, keys and workers."""

import collections
from itertools import islice

import numpy as np
import pytest
import torch
from reds_set import find, read, reds
from samples import sample_of
from synthetic import make_clips

from vsr.data import SampleKey, TrainSampler
from vsr.data.stream.loader import batches


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("reds"), num_clips=2, num_frames=8, gt_size=(64, 96))


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
