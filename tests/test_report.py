"""The page that every test writes: what it holds, that it loads nothing, and that it is small."""

import json
import re
from pathlib import Path

import pytest
from reports import HOSTILE, data_of, scores_of, small_test
from synthetic import make_clips
from training import predictor_options, small_options, write_options
from videos import make_humaneva

from vsr import test, train
from vsr.config import load
from vsr.evaluation.page.images import from_data_uri, size_of
from vsr.utils.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(autouse=True)
def work_in(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def results(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small_test(folder, sets=2, gain=0.9)
        return folder / small_test(folder, sets=2)


def test_a_page_shows_the_frames_that_the_scores_say(results):
    scores, data = scores_of(results), data_of(results / "report.html")
    assert [own["name"] for own in data["sets"]] == ["set0", "set1"]
    clip = data["sets"][0]["clips"][0]
    found = {kind: shot["frame"] for shot in clip["shots"] for kind in shot["kinds"]}
    ordered = sorted(scores, key=scores.get)
    assert found == {"middle": "00000002", "worst": ordered[0], "median": ordered[2], "best": ordered[-1]}
    curve = clip["values"]["psnr"]["network"]
    assert curve == pytest.approx(list(scores.values()), abs=1e-4) and len(curve) == len(clip["frames"]) == 5
    for shot in clip["shots"]:
        assert list(shot["images"]) == ["LQ", "bicubic", "network", "GT", "difference"]
        assert shot["value"] == scores[shot["frame"]]
        assert size_of(from_data_uri(shot["images"]["LQ"])) == (12, 16)
        assert size_of(from_data_uri(shot["images"]["GT"])) == tuple(shot["size"]) == (48, 64)


def test_a_page_has_a_table_beside_bicubic_and_the_former_test(results):
    text = (results / "report.html").read_text()
    means = json.loads((results / "metrics.json").read_text())["datasets"]["set0"]["scores"]
    former = json.loads((results / "metrics.json.old").read_text())["datasets"]["set0"]["scores"]["network"]
    row = re.search(r'<tr><th scope="row"><button type="button" data-clip="000">.*?</tr>', text)[0]
    values = [float(value) for value in re.findall(r"<td[^>]*>([\d.]+)", row)]
    bicubic, bilinear, network = (means[method]["000"]["psnr"] for method in ("bicubic", "bilinear", "network"))
    assert values == pytest.approx([bicubic, bilinear, former["000"]["psnr"], network], abs=0.006)
    gap = f"{network - bicubic:+.2f}".replace("-", "−")
    assert f'<small class="worse">{gap}</small>' in row
    assert data_of(results / "report.html")["sets"][0]["results"] == ["former test", "network"]
    assert (results / "report.html.old").is_file()


def test_a_page_loads_nothing_and_is_small(results):
    text = (results / "report.html").read_text()
    without_pictures = re.sub(r"data:image/(png|jpeg);base64,[\w+/=]+", "", text)
    assert not re.search(r"https?://|url\(|@import|<link|<script[^>]* src|<iframe|fetch\(|XMLHttp", without_pictures)
    assert "default-src 'none'; img-src data:" in text
    assert len(text) < 25e6


def test_a_page_escapes_names_and_data(results):
    text = (results / "report.html").read_text()
    assert HOSTILE not in text and "&lt;b&gt;&amp;&quot;&#x27;&lt;!--" in text
    assert [clip["name"] for clip in data_of(results / "report.html")["sets"][0]["clips"]] == ["000", HOSTILE]
    assert text.count("</script>") == 2


def test_a_page_lists_options_versions_and_protocols(results):
    text = (results / "report.html").read_text()
    for expected in ("weights_sha256", "versions.torch", "set0.protocols.psnr.name", "type: RepeatedPixels"):
        assert expected in text, expected
    head = json.loads((results / "metrics.json").read_text())
    assert head["complete"] and head["options"]["network_g"]["type"] == "RepeatedPixels"


def test_a_page_is_left_out_and_that_of_the_former_test_is_moved(folder):
    small_test(folder, "without")
    results = small_test(folder, "without", val__report=False)
    assert not (results / "report.html").exists() and (results / "report.html.old").exists()


def test_frames_can_be_chosen(folder):
    results = small_test(folder, "chosen", val__report_frames=[0, 4])
    shots = data_of(results / "report.html")["sets"][0]["clips"][1]["shots"]
    assert [(shot["frame"], shot["kinds"][0]) for shot in shots[:2]] == [("00000000", "chosen"), ("00000004", "chosen")]
    assert len(shots) <= 4
    options = small_options(make_clips(folder / "few", 1, 3, (32, 32)), val__report_frames=[1, 2, 3, 4, 5])
    with pytest.raises(UserError, match=r"val\.report_frames: 5 frames; name one to four"):
        load(write_options(folder, options))


def test_a_set_without_truth_has_pictures_and_no_scores(folder):
    results = small_test(folder, "blind", has_gt=False)
    page = results / "report.html"
    clip = data_of(page)["sets"][0]["clips"][0]
    assert {kind for shot in clip["shots"] for kind in shot["kinds"]} == {"middle", "first", "last"}
    assert list(clip["shots"][0]["images"]) == ["LQ", "bicubic", "network"] and clip["values"] == {}
    assert "No ground truth: nothing was measured." in page.read_text()


def test_a_network_of_clips_and_motion_are_shown_too(folder):
    """The first frame of a clip has no value of a measure of pairs."""
    network = {"network_g": {"type": "RecurrentNetwork"}, "imports": ["recurrent_network"]}
    clips = make_clips(folder / "motion", 2, 4, (48, 64))
    metrics = {"motion": {"type": "calculate_tof"}, "psnr": {"type": "calculate_psnr", "crop_border": 0}}
    options = small_options(clips, name="motion", train__total_iter=1, **network)
    options["datasets"]["train"] |= {"gt_frames": "all"}
    options["val"]["metrics"] = metrics
    file = str(write_options(folder, options))
    assert train.main(["-opt", file]) == 0
    assert test.main(["-opt", file]) == 0
    own = data_of(Path("results/motion/report.html"))["sets"][0]
    assert own["metrics"] == ["motion", "psnr"]
    assert own["clips"][0]["values"]["motion"]["network"][0] is None
    values = own["clips"][0]["values"]["motion"]["network"]
    found = {kind: shot["frame"] for shot in own["clips"][0]["shots"] for kind in shot["kinds"]}
    assert found["best"] == f"{values.index(min(values[1:])):08d}", "lower is better"
    report = json.loads(Path("results/motion/metrics.json").read_text())["datasets"]["clips"]
    assert "Farneback" in report["protocols"]["motion"]["measure"] and report["lower_is_better"] == ["motion"]


def test_a_memory_shows_its_weights_in_the_middle_frame(folder):
    clips = make_clips(folder / "memory", 1, 4, (48, 64))
    options = small_options(clips, name="memory", train__total_iter=1)
    options["network_g"] |= {"type": "EDVRMemory", "memory": {"type": "pixwise"}, "map_size": [8, 8]}
    file = str(write_options(folder, options))
    assert train.main(["-opt", file, "--set", "datasets.val=~"]) == 0
    assert test.main(["-opt", file]) == 0
    assert not Path("results/memory/weights").exists()
    shots = data_of(Path("results/memory/report.html"))["sets"][0]["clips"][0]["shots"]
    assert [list(shot["weights"]) for shot in shots if "middle" in shot["kinds"]] == [["maps"]]
    assert not any(shot["weights"] for shot in shots if "middle" not in shot["kinds"])


def test_predicted_frames_are_shown_with_their_weights(folder):
    root = folder / "humaneva"
    make_humaneva(root)
    options = predictor_options(root, name="predicted", train__total_iter=1)
    file = str(write_options(folder, options))
    assert train.main(["-opt", file]) == 0
    assert test.main(["-opt", file]) == 0
    page = Path("results/predicted/report.html")
    own = data_of(page)["sets"][0]
    assert own["methods"][-1] == "network" and "epe" not in own["metrics"]
    shot = own["clips"][0]["shots"][0]
    assert list(shot["images"]) == ["copy-last", "mean of memory", "network", "GT", "difference"]
    assert list(shot["weights"]) == ["level_1", "level_2"]
    assert "l1 <small>lower is better" in page.read_text()
