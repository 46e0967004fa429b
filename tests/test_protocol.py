import pytest

from vsr.evaluation.report import warn_of_other_frames
from vsr.metrics import protocol_for
from vsr.utils.log import logger


def reds(*clips, size=(720, 1280), frames=100):
    return dict.fromkeys(clips or ("000", "011", "015", "020"), (frames, size))


REDS4 = reds()


def test_reds4_as_published_has_the_published_name_and_canary():
    protocol = protocol_for("REDS4", REDS4, "reflection_circle", 4)
    assert protocol.name == "reds4-rgb"
    assert protocol.bicubic == {"psnr": 26.14, "ssim": 0.7292}


def test_vid4_is_measured_on_luma():
    sizes = {"calendar": (576, 720), "city": (576, 704), "foliage": (480, 720), "walk": (480, 720)}
    clips = {clip: (count, sizes[clip]) for clip, count in zip(sizes, (41, 34, 49, 47), strict=True)}
    assert protocol_for("Vid4", clips, "reflection_circle", 4, test_y_channel=True).name == "vid4-y"
    clips["city"], clips["walk"] = (47, (576, 704)), (34, (480, 720))
    assert protocol_for("Vid4", clips, "reflection_circle", 4).name == "vid4-rgb+4clips171frames"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"clips": reds(frames=10)}, "reds4-rgb+4clips40frames"),
        ({"clips": reds("000", "011", "020")}, "reds4-rgb+3clips300frames"),
        ({"clips": reds("000", "001", "002", "003")}, "reds4-rgb+otherclips"),
        ({"clips": reds("a", "b", "c", "d", size=(32, 32), frames=2)}, "reds4-rgb+otherclips+4clips8frames"),
        ({"clips": reds(size=(32, 32))}, "reds4-rgb+32x32"),
        ({"clips": reds(size=(32, 32), frames=2)}, "reds4-rgb+32x32+4clips8frames"),
        ({"clips": reds(size=None)}, "reds4-rgb+unknownsize"),
        ({"dataset": "REDSofficial4"}, "redsofficial4-rgb+otherclips"),
        ({"scale": 2}, "reds4-rgb+x2"),
        ({"crop_border": 8}, "reds4-rgb+crop8"),
        ({"padding": "replicate"}, "reds4-rgb+replicate"),
        (
            {"crop_border": 2, "padding": "circle", "clips": reds("000", frames=1)},
            "reds4-rgb+1clips1frames+crop2+circle",
        ),
        ({"test_y_channel": True}, "reds4-y"),
        ({"is_bd": True}, "reds4-rgb+bd"),
    ],
)
def test_a_setting_that_is_not_the_published_one_shows_in_the_name(settings, name):
    protocol = protocol_for(
        **{"dataset": "REDS4", "clips": REDS4, "padding": "reflection_circle", "scale": 4, **settings}
    )
    assert protocol.name == name
    assert not protocol.bicubic


def test_a_set_of_ones_own_is_named_after_itself():
    protocol = protocol_for("Demo", {"a": (10, None)}, "reflection_circle", 4)
    assert (protocol.name, protocol.clips, protocol.frames) == ("demo-rgb", 1, 10)


def test_frames_that_are_not_the_published_ones_are_told(caplog, monkeypatch):
    monkeypatch.setattr(logger, "propagate", True)
    protocol = {"name": "reds4-rgb", "bicubic": 26.14}
    warn_of_other_frames({"psnr": protocol, "own": {"name": "reds4-rgb", "bicubic": None}}, {"psnr": 26.15, "own": 0})
    assert not caplog.records
    warn_of_other_frames({"psnr": protocol}, {"psnr": 25.9})
    assert "bicubic gives psnr 25.9000, published is 26.1400" in caplog.text
