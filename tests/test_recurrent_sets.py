"""Training and test clips for networks that restore every frame of a clip."""

import collections
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import sample_of
from synthetic import make_clips

from preparation.meta_info import write_meta_info
from vsr.contracts import SampleKey, Spec, mismatches
from vsr.data.lists.meta_info import ClipInfo
from vsr.data.sets.crops import ClipCrops, CropOptions, TrainingClip
from vsr.data.sets.recurrent import REDSRecurrentDataset, VideoRecurrentTestDataset, Vimeo90KRecurrentDataset

SMALL = {"gt_size": 32, "num_frame": 4, "val_partition": "none"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("recurrent"), num_clips=2, num_frames=9, gt_size=(40, 48))


@pytest.fixture(scope="module")
def septuplets(tmp_path_factory):
    made = make_clips(tmp_path_factory.mktemp("septuplets"), num_clips=2, num_frames=7, gt_size=(40, 48))
    for root in (made.gt, made.lq):
        for clip in made.clips:
            for number in range(7):
                (root / clip / f"{number:08d}.png").rename(root / clip / f"im{number + 1}.png")
    write_meta_info(made.meta, [ClipInfo(clip, 7, (40, 48, 3)) for clip in made.clips])
    return made


def roots(made):
    return {"dataroot_gt": made.gt, "dataroot_lq": made.lq, "meta_info_file": made.meta}


def reds(made, **options):
    return REDSRecurrentDataset(**{**roots(made), **SMALL, **options})


class Numbers:
    """A store of grey frames that hold their own numbers."""

    root = Path("numbers")

    def read(self, key, crop=None):
        return np.full((4, 4, 3), int(key.rpartition("/")[2]), np.uint8)


def starts_of(starts, interval=1, num_frame=15, length=100):
    """Returns how often a clip's frames are the first one, over 200 epochs of draws."""
    options = CropOptions(4, num_frame, 4, [interval], False, False, False, "error", "all", starts)
    clip = TrainingClip("000", [str(number) for number in range(length)], (4, 4))
    items = np.array([(0, frame) for frame in range(length)])
    dataset, firsts = ClipCrops(Numbers(), None, [clip], items, options), collections.Counter()
    for epoch in range(200):
        for frame in range(length):
            numbers = dataset.read(frame, SampleKey(frame, epoch))["gt"][:, 0, 0, 0]
            assert numbers.tolist() == list(range(numbers[0], numbers[0] + num_frame * interval, interval))
            firsts[int(numbers[0])] += 1
    return firsts


@pytest.mark.parametrize("num_frame", [1, 2, 5, 9])
def test_a_sample_is_the_same_place_of_successive_frames(clips, num_frame):
    dataset = reds(clips, num_frame=num_frame)
    assert len(dataset) == 18 and dataset.spec.num_frames == num_frame and dataset.spec.gt_frames == "all"
    plain = {frame: torch.from_numpy(dataset.gt.read(frame).copy()) for frame in dataset_frames(dataset)}
    sample = sample_of(dataset, 3)
    assert sample["lq"].shape == (num_frame, 3, 8, 8) and sample["gt"].shape == (num_frame, 3, 32, 32)
    found = [frame_holding(crop, plain) for crop in (sample["gt"] * 255).round().byte()]
    numbers = [int(frame.rpartition("/")[2]) for frame in found]
    assert numbers == list(range(numbers[0], numbers[0] + num_frame))
    assert sample["key"] == found[num_frame // 2]


def dataset_frames(dataset):
    return [f"{clip.name}/{frame}" for clip in dataset.clips for frame in clip.frames]


def frame_holding(crop, frames):
    pixels = crop.permute(1, 2, 0)
    for name, frame in frames.items():
        windows = frame.unfold(0, 32, 1).unfold(1, 32, 1).permute(0, 1, 3, 4, 2)  # (y, x, 32, 32, 3)
        if (windows == pixels).flatten(2).all(2).any():
            return name
    raise AssertionError("a crop of no frame")


def test_first_frames_are_uniform():
    counts = starts_of("uniform")
    assert sorted(counts) == list(range(86))
    assert max(counts.values()) < 1.35 * 20000 / 86 and min(counts.values()) > 0.65 * 20000 / 86


def test_basicsr_s_rule_redraws_only_what_would_leave_the_clip():
    counts = starts_of("basicsr")
    assert sorted(counts) == list(range(86)) and min(counts.values()) >= 200
    assert sorted(starts_of("basicsr", interval=2)) == list(range(71)), "num_frame * interval frames, as there"
    assert sorted(starts_of("uniform", interval=2)) == list(range(72))


def test_a_mirrored_sequence_is_followed_by_itself_in_reverse(clips):
    sample = sample_of(reds(clips, flip_sequence=True, use_rot=True, random_reverse=True), 5)
    plain = sample_of(reds(clips, use_rot=True, random_reverse=True), 5)
    for side in ("lq", "gt"):
        assert torch.equal(sample[side], torch.cat([plain[side], plain[side].flip(0)]))
    assert reds(clips, flip_sequence=True).spec.num_frames == 8


def test_ground_truth_alone_is_enough_for_a_degradation(clips):
    dataset = reds(clips, dataroot_lq=None)
    assert "lq" not in sample_of(dataset, 0) and not dataset.spec.has_lq


def test_a_clip_that_is_too_short_is_refused(clips):
    with pytest.raises(ValueError, match="clip '000' has 9 frames, but num_frame 10 at interval 1 needs 10"):
        reds(clips, num_frame=10)


def test_septuplets_are_clips_and_may_be_mirrored(septuplets):
    whole = Vimeo90KRecurrentDataset(**roots(septuplets), gt_size=32)
    mirrored = Vimeo90KRecurrentDataset(**roots(septuplets), gt_size=32, flip_sequence=True)
    few = Vimeo90KRecurrentDataset(**roots(septuplets), gt_size=32, num_frame=3)
    assert [dataset.spec.num_frames for dataset in (whole, mirrored, few)] == [7, 14, 3]
    sample, other = sample_of(whole, 1), sample_of(mirrored, 1)
    assert sample["gt"].shape == (7, 3, 32, 32) and sample["key"] == "001/im4"
    assert torch.equal(other["lq"], torch.cat([sample["lq"], sample["lq"].flip(0)]))
    keys = {sample_of(few, draw)["key"] for draw in range(40)}
    assert keys == {f"{clip}/im{number}" for clip in septuplets.clips for number in range(2, 7)}


def test_whole_clips_are_tested_without_windows(clips):
    dataset = VideoRecurrentTestDataset(clips.lq, clips.gt)
    assert dataset.spec.num_frames is None and dataset.spec.has_gt
    assert [len(clip.targets) for clip in dataset] == [9, 9]
    assert not list(mismatches(Spec(reads="clip", scale=4), dataset.spec, "Network", "datasets.val"))
    without_files = VideoRecurrentTestDataset.__new__(VideoRecurrentTestDataset)
    with pytest.raises(FileNotFoundError):
        without_files.__init__("nowhere")
    assert without_files.spec.num_frames is None, "--check compares it"


@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        ({"flip_sequence": True}, "flip_sequence: true, but EDVR restores the middle frame of a window: leave it out"),
        ({}, "num_frame: 4 is even, but EDVR restores the middle frame of a window: choose an odd number"),
    ],
)
def test_what_makes_no_sense_for_windows_is_a_mistake(clips, options, mistake):
    found = mismatches(Spec(num_frames=None, scale=4), reds(clips, **options).spec, "EDVR", "datasets.train")
    assert f"datasets.train.{mistake}" in [f"{key}: {text}" for key, text in found]
