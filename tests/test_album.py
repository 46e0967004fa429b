"""Which frames a report shows; they are chosen while frames come, and few are kept."""

import math

import numpy as np
import pytest

from vsr.contracts import Clip
from vsr.evaluation.page.album import CANDIDATES, Album, Spread, fixed_frames, limited, merged
from vsr.evaluation.page.fitting import MOST_BYTES, bytes_of, fitting, joined
from vsr.evaluation.page.images import LARGEST, cut, encoded, from_data_uri, panels, size_of
from vsr.evaluation.scores import FrameScore, Restored

PICTURE = np.zeros((8, 8, 3), np.uint8)


def album_of(clips, lower_is_better=False, wanted=None, drawn=None):
    """Returns the shots of clips, given the values of their frames; None is no value."""
    album = Album("psnr", lower_is_better, wanted or {})
    for clip, values in clips.items():
        for number, value in enumerate(values):
            scores = [] if value is None else [FrameScore("network", clip, str(number), {"psnr": value})]

            def draw(name=(clip, number)):
                (drawn if drawn is not None else []).append(name)
                return {"network": PICTURE}

            album.add(clip, str(number), scores, draw, dict)
    return album.shots()


def kinds(shots, clip="a"):
    return {kind: shot.frame for shot in shots if shot.clip == clip for kind in shot.kinds}


def test_best_worst_and_median_are_those_of_the_values():
    values = [30, 21, 25, 28, 24]
    assert kinds(album_of({"a": values})) == {"middle": "2", "median": "2", "worst": "1", "best": "0"}
    assert kinds(album_of({"a": values}, lower_is_better=True))["best"] == "1"
    assert kinds(album_of({"a": [math.inf, 20, 30]})) == {"middle": "1", "median": "2", "worst": "1", "best": "0"}


def test_a_frame_of_several_kinds_is_shown_once():
    shots = album_of({"a": [25.0]})
    assert [shot.kinds for shot in shots] == [("middle", "median", "worst", "best")]


def test_the_median_of_a_long_clip_is_near_and_its_extremes_are_exact():
    values = list(np.random.default_rng(0).permutation(1000).astype(float))
    found = kinds(album_of({"a": values}))
    assert values[int(found["best"])] == 999 and values[int(found["worst"])] == 0
    assert abs(values[int(found["median"])] - 500) < 100


def test_only_frames_that_are_shown_are_drawn():
    drawn = []
    album_of({"a": list(range(100)), "b": [5, 1, 9, 7]}, drawn=drawn)
    assert len(drawn) <= 8 and {clip for clip, _ in drawn} == {"a", "b"}


def test_clips_without_truth_show_first_middle_and_last():
    assert kinds(album_of({"a": [None] * 9})) == {"middle": "4", "first": "0", "last": "8"}


def test_the_first_frame_may_lack_a_value_of_a_pair():
    assert kinds(album_of({"a": [None, 3.0, 2.0, 4.0]}, lower_is_better=True))["best"] == "2"
    assert kinds(album_of({"a": [None] * 40 + [3.0]}))["median"] == "40"


def test_chosen_frames_come_first_and_others_fill_up_to_four():
    wanted = {("a", "3"): "chosen", ("a", "4"): "chosen", ("b", "3"): "chosen"}
    shots = album_of({"a": [1, 2, 3, 9, 8, 4, 7], "b": [1, 2]}, wanted=wanted)
    assert kinds(shots) == {"chosen": "4", "median": "5", "worst": "0", "best": "3"}
    assert [shot.frame for shot in shots if shot.clip == "a"] == ["3", "4", "5", "0"]
    assert kinds(shots, "b") == {"median": "0", "worst": "0", "best": "1"}


def test_fixed_frames_are_the_middle_or_those_of_the_option(caplog):
    clips = [Clip(name, tuple("vwxyz"[:n]), np.zeros, None, range(n)) for name, n in (("a", 5), ("b", 2))]
    assert fixed_frames(clips, None) == {("a", "x"): "middle", ("b", "w"): "middle"}
    assert fixed_frames(clips, [0, 4]) == {("a", "v"): "chosen", ("a", "z"): "chosen", ("b", "v"): "chosen"}
    assert fixed_frames(clips, [9]) == {}
    assert "val.report_frames: no clip has frames 9" in caplog.text


def test_a_spread_is_even_whatever_the_length():
    for length in (1, CANDIDATES, CANDIDATES + 1, 1000):
        spread = Spread(CANDIDATES)
        for number in range(length):
            spread.add(number)
        assert len(set(np.diff(spread.items))) <= 1
        assert spread.items[0] == 0 and min(length, CANDIDATES // 2) <= len(spread.items) <= CANDIDATES
        assert spread.items[-1] >= length - 1 - length // len(spread.items) - 1


def test_ranks_that_share_a_clip_agree_on_one_frame_of_each_kind():
    values = [5.0, 9.0, 1.0, 7.0, 3.0, 8.0, 2.0, 6.0]
    parts = album_of({"a": values[:4]}) + [
        shot._replace(frame=str(int(shot.frame) + 4)) for shot in album_of({"a": values[4:]})
    ]
    shots = merged(parts, lower_is_better=False)
    assert {kind: frame for kind, frame in kinds(shots).items() if kind != "middle"} == {
        "median": "0",
        "worst": "2",
        "best": "1",
    }
    for shot in merged(parts, lower_is_better=False):
        assert values[int(shot.frame)] == shot.value


def test_many_clips_show_fewer_frames_each():
    assert len(limited(album_of({str(clip): [1, 2, 3, 4] for clip in range(10)}), 32)) == 10 * 3
    shots = limited(album_of({str(clip): [1, 2, 3, 4] for clip in range(100)}), 32)
    assert len(shots) == len({shot.clip for shot in shots}) <= 32
    assert {shot.kinds[0] for shot in shots} == {"middle"}


def test_frames_that_are_too_large_are_cut_to_their_middle():
    lq = np.arange(300 * 400 * 3, dtype=np.uint32).astype(np.uint8).reshape(300, 400, 3)
    sr = lq.repeat(4, 0).repeat(4, 1)
    restored = cut(Restored("a", "0", lq, sr, {"bicubic": sr, "network": sr}), 4)
    assert restored.gt.shape[:2] == LARGEST and restored.lq.shape[:2] == (180, 320)
    assert (restored.lq == lq[60:240, 40:360]).all() and (restored.gt == sr[240:960, 160:1440]).all()
    small = cut(Restored("a", "0", lq[:50, :50], None, {"bicubic": sr[:200, :200], "network": sr[:200, :200]}), 4)
    assert list(small.by_method) == ["network"] and small.by_method["network"].shape == (200, 200, 3)


def test_pictures_are_encoded_at_their_size_and_the_difference_is_bright_where_frames_differ():
    lq = np.full((16, 16, 3), 100, np.uint8)
    truth = np.full((64, 64, 3), 100, np.uint8)
    truth[:, 32:] = 180
    images = panels(Restored("a", "0", lq, truth, {"network": np.full((64, 64, 3), 100, np.uint8)}), 4)
    assert list(images) == ["LQ", "bicubic", "network", "GT", "difference"]
    assert images["difference"][:, :32].max() < 10 and images["difference"][:, 32:].mean() > 150
    files = encoded(images)
    assert size_of(files["LQ"]) == (16, 16) and size_of(files["GT"]) == (64, 64)
    uri = "data:image/png;base64,iVBORw=="
    assert from_data_uri(uri) == b"\x89PNG"


def test_pictures_are_made_coarser_until_they_fit_into_a_page(monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    images = encoded({"network": noise, "GT": noise})
    shots = [shot._replace(images=images) for shot in album_of({"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]})]
    assert len(shots) == 6 and fitting({"set": shots}) == {"set": shots}
    most = bytes_of({"set": shots})
    monkeypatch.setattr("vsr.evaluation.page.fitting.MOST_BYTES", 0.9 * most)
    (coarse,) = fitting({"set": shots}).values()
    assert len(coarse) == 6, "a little coarser is enough"
    monkeypatch.setattr("vsr.evaluation.page.fitting.MOST_BYTES", 0.35 * most)
    (few,) = fitting({"set": shots}).values()
    assert [(shot.clip, shot.kinds) for shot in few] == [("a", ("middle", "median")), ("b", ("middle", "median"))]
    assert bytes_of({"set": few}) <= 0.35 * most
    monkeypatch.setattr("vsr.evaluation.page.fitting.MOST_BYTES", 10)
    assert fitting({"set": shots}) == {"set": []}
    assert MOST_BYTES < 25e6


def test_shots_of_several_results_are_joined_where_two_have_the_frame():
    shots = {name: album_of({"a": values}) for name, values in (("x", [1, 2, 3]), ("y", [3, 1, 2]), ("z", [2, 1, 3]))}
    for own in shots.values():
        own[:] = [shot._replace(images={"LQ": b"l", "network": b"n", "GT": b"g"}) for shot in own]
    shots["y"] = [shot for shot in shots["y"] if shot.frame != "0"]
    shots["z"] = [shot for shot in shots["z"] if shot.frame == "1"]
    found = {shot.frame: shot for shot in joined(shots)}
    assert list(found) == ["1", "2"]
    assert found["1"].kinds == ("middle", "median of x", "worst of y and z")
    assert list(found["1"].images) == ["LQ", "x", "y", "z", "GT"] and list(found["2"].images) == ["LQ", "x", "y", "GT"]
    assert joined({"x": shots["x"], "y": []}) == shots["x"]


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [2.0, 1.0]])
def test_every_clip_has_each_kind(values):
    assert set(kinds(album_of({"a": values}))) == {"middle", "median", "worst", "best"}
