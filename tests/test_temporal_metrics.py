"""Measures of motion: on clips whose motion is known, and which frames they read."""

from functools import partial

import cv2
import numpy as np
import pytest
import torch
from synthetic import moving_texture

from vsr.contracts import Clip, Spec
from vsr.evaluation.plan import planned
from vsr.evaluation.restore import Frame, steps_of
from vsr.evaluation.scores import measure_all
from vsr.metrics import traits, traits_of
from vsr.metrics.temporal import _visible, calculate_tof, calculate_warping_error
from vsr.utils.distributed import Place

SIZE = 96, 128


def still(seed=0):
    return moving_texture(1, SIZE, seed)[0]


def smooth(seed=0):
    return cv2.GaussianBlur(still(seed), (0, 0), 2)


def shifted(image, x, y):
    shift = np.array([[1, 0, x], [0, 1, y]], float)
    return cv2.warpAffine(image, shift, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


def test_equal_motion_has_no_tof_and_another_motion_the_distance_of_the_two():
    before, after = smooth(), shifted(smooth(), 1, 0)
    assert calculate_tof(after, after, before, before) == 0
    twice = shifted(smooth(), 3, 0)
    assert calculate_tof(twice, after, before, before) == pytest.approx(2, rel=0.15)
    assert calculate_tof(shifted(smooth(), 1, 2), after, before, before) == pytest.approx(2, rel=0.15)


def test_tof_does_not_depend_on_how_the_frames_look():
    """A restored clip that is darker, but moves as the truth does, has a small tOF."""
    before, after = smooth(), shifted(smooth(), 2, 1)
    still_standing = calculate_tof(before // 2, after, before // 2, before)
    assert calculate_tof(after // 2, after, before // 2, before) < 0.2 * still_standing


def test_a_flicker_over_a_still_clip_is_the_warping_error():
    truth, restored = still(0), np.clip(still(1), 20, 220)
    assert calculate_warping_error(restored, truth, restored, truth) == 0
    expected = 1000 * (10 / 255) ** 2
    assert calculate_warping_error(restored + np.uint8(10), truth, restored, truth) == pytest.approx(expected, rel=1e-4)
    assert calculate_warping_error(restored + np.uint8(10), truth, restored, truth, 30) == pytest.approx(expected)


def test_points_are_followed_along_the_flow_of_the_truth():
    before, after = smooth(), shifted(smooth(), 3, 0)
    followed = calculate_warping_error(after, after, before, before)
    unmoved = calculate_warping_error(before, after, before, before)  # the restored clip stands still
    assert followed < 0.1 * unmoved


def test_occluded_points_motion_boundaries_and_points_that_leave_are_left_out():
    there = np.zeros((20, 30, 2), np.float32)
    assert _visible(there, -there, 0).all()
    assert _visible(there, -there, 4).sum() == 12 * 22
    occluded = there.copy()
    occluded[5:9, 5:9] = 3  # of these points the way back leads elsewhere
    seen = _visible(there, occluded, 0)
    assert not seen[5:9, 5:9].any() and seen.sum() == 20 * 30 - 16
    leaving = there + np.float32([4, 0])
    assert (_visible(leaving, -leaving, 0) == (np.arange(30) <= 25)).all()
    boundary = there.copy()
    boundary[:, 15:, 1] = 5
    seen = _visible(boundary, -boundary, 0)[:14]
    assert not seen[:, 14:16].any() and seen[:, :14].all() and seen[:, 16:].all()


@pytest.mark.parametrize("metric", [calculate_tof, calculate_warping_error])
def test_frames_that_cannot_be_compared_are_refused(metric):
    image = still()
    with pytest.raises(ValueError, match="differ in shape"):
        metric(image, image, image[:-1], image)
    with pytest.raises(ValueError, match="crop_border 48 leaves nothing"):
        metric(image, image, image, image, 48)
    assert traits_of(partial(metric)).reads == "pair" and traits_of(metric).lower_is_better


def test_a_metric_of_pairs_reads_the_frame_before_and_skips_the_first_of_a_clip_and_after_a_gap():
    """Each frame is as bright as its number; of the truth, ten times as bright."""

    @traits("pair")
    def numbers(image, truth, before, truth_before, /):
        assert (truth == 10 * image).all() and (truth_before == 10 * before).all()
        return float(before[0, 0, 0]) * 100 + float(image[0, 0, 0])

    def image(number):
        return np.full((4, 4, 3), number, np.uint8)

    names = tuple(map(str, range(6)))
    clips = [Clip(name, names, image, lambda number: image(10 * number), range(1, 6)) for name in ("a", "b")]
    steps = [step for step in steps_of(Spec(num_frames=1), clips) if (step.clip.name, step.gives[0]) != ("b", 3)]
    frames = (Frame(s.clip, s.gives[0], image(s.gives[0]), image(s.gives[0]), ()) for s in steps)
    found = {
        (score.clip, score.frame): score.values
        for _, scores in measure_all(frames, steps, {"pair": numbers, "mean": lambda a, _: float(a.mean())}, 0)
        for score in scores
    }
    assert all("mean" in values for values in found.values())
    pairs = {key: values["pair"] for key, values in found.items() if "pair" in values}
    own = {"2": 102, "3": 203, "4": 304, "5": 405}
    assert pairs == {**{("a", frame): value for frame, value in own.items()}, ("b", "2"): 102, ("b", "5"): 405}


def test_ranks_share_whole_clips_where_a_metric_reads_pairs(monkeypatch):
    class Options:
        metrics, segment, warm_up, look_ahead, flip_seq = {"psnr": lambda a, b: 0.0}, None, 0, 0, False

    class Network(torch.nn.Module):
        spec = Spec(num_frames=1)

    class Entry:
        data = None

    clips = [Clip(name, ("0", "1", "2"), np.zeros, None, range(3)) for name in "abc"]

    def shares():
        both = [planned(Network(), Entry, clips, Options, Place(torch.device("cpu"), rank, 2))[1] for rank in (0, 1)]
        return [[step.clip.name for step in steps] for steps in both]

    assert shares() == [list("aaab"), list("bbccc")]
    Options.metrics = {"tof": partial(calculate_tof)}
    assert shares() == [list("aaa"), list("bbbccc")]
