import pytest

from vsr.evaluation.report import warn_of_other_frames
from vsr.metrics import protocol_for
from vsr.utils.log import logger


def test_reds4_as_published_has_the_published_name_and_canary():
    protocol = protocol_for("REDS4", [100] * 4, "reflection_circle", 4)
    assert protocol.name == "reds4-rgb"
    assert protocol.bicubic == {"psnr": 26.14, "ssim": 0.7292}


def test_vid4_is_measured_on_luma():
    assert protocol_for("Vid4", [41, 34, 49, 47], "reflection_circle", 4, test_y_channel=True).name == "vid4-y"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"frames_per_clip": [10] * 4}, "reds4-rgb+4clips40frames"),
        ({"frames_per_clip": [100] * 3}, "reds4-rgb+3clips300frames"),
        ({"scale": 2}, "reds4-rgb+x2"),
        ({"crop_border": 8}, "reds4-rgb+crop8"),
        ({"padding": "replicate"}, "reds4-rgb+replicate"),
        ({"crop_border": 2, "padding": "circle", "frames_per_clip": [1]}, "reds4-rgb+1clips1frames+crop2+circle"),
        ({"test_y_channel": True}, "reds4-y"),
        ({"is_bd": True}, "reds4-rgb+bd"),
    ],
)
def test_a_setting_that_is_not_the_published_one_shows_in_the_name(settings, name):
    protocol = protocol_for(
        **{"dataset": "REDS4", "frames_per_clip": [100] * 4, "padding": "reflection_circle", "scale": 4, **settings}
    )
    assert protocol.name == name
    assert not protocol.bicubic


def test_a_set_of_ones_own_is_named_after_itself():
    protocol = protocol_for("Demo", [10], "reflection_circle", 4)
    assert (protocol.name, protocol.clips, protocol.frames) == ("demo-rgb", 1, 10)


def test_frames_that_are_not_the_published_ones_are_told(caplog, monkeypatch):
    monkeypatch.setattr(logger, "propagate", True)
    protocol = {"name": "reds4-rgb", "bicubic": 26.14}
    warn_of_other_frames({"psnr": protocol, "own": {"name": "reds4-rgb", "bicubic": None}}, {"psnr": 26.15, "own": 0})
    assert not caplog.records
    warn_of_other_frames({"psnr": protocol}, {"psnr": 25.9})
    assert "bicubic gives psnr 25.9000, published is 26.1400" in caplog.text
