"""`vsr compare`: results side by side, and one message for each that cannot be compared."""

import json
import re
import shutil
from pathlib import Path

import pytest
from reports import HOSTILE, data_of, scores_of, small_test

from vsr.evaluation.page.images import from_data_uri
from vsr.tools.compare import labels, main
from vsr.utils.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small_test(folder, "first")
        small_test(folder, "second", gain=0.9)
        small_test(folder, "two_sets", sets=2)
    return folder


@pytest.fixture(autouse=True)
def work_in(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.fixture
def spoilt(folder, tmp_path):
    """A copy of a result, to be spoilt."""
    return Path(shutil.copytree(folder / "results/second", tmp_path / "spoilt"))


def test_scores_are_listed_by_clip_with_their_differences(folder, capsys):
    assert main(["results/first", "results/second"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "psnr" and lines[1].split() == ["set0", "first", "second"]
    scores = [json.loads((folder / f"results/{name}/metrics.json").read_text()) for name in ("first", "second")]
    a, b = (own["datasets"]["set0"]["scores"]["network"]["000"]["psnr"] for own in scores)
    assert lines[2].split() == ["000", f"{a:.2f}", f"{b:.2f}", f"({b - a:+.2f})".replace("-", "−")]
    assert lines[3].startswith(f"  {HOSTILE}") and lines[4].split()[0] == "mean"
    assert lines[-1] == "page: compare.html" and "note:" not in "".join(lines)


def test_the_page_overlays_curves_and_shows_the_networks_of_the_same_frames(folder):
    assert main(["results/first", "results/second", "-o", "page.html"]) == 0
    (own,) = data_of(Path("page.html"))["sets"]
    assert own["methods"] == ["first", "second", "bicubic", "bilinear"] and own["results"] == ["first", "second"]
    clip = own["clips"][0]
    for name in ("first", "second"):
        assert clip["values"]["psnr"][name] == pytest.approx(
            list(scores_of(folder / "results" / name).values()), abs=1e-4
        )
    shot = clip["shots"][0]
    assert shot["frame"] == "00000002" and "middle" in shot["kinds"]
    titles = ["LQ", "bicubic", "first", "second", "GT", "difference first", "difference second"]
    assert list(shot["images"]) == titles
    frames = {name: from_data_uri(shot["images"][name]) for name in ("first", "second")}
    for name, image in frames.items():
        shots = data_of(folder / "results" / name / "report.html")["sets"][0]["clips"][0]["shots"]
        (own_shot,) = (other for other in shots if other["frame"] == "00000002")
        assert from_data_uri(own_shot["images"]["network"]) == image
    text = Path("page.html").read_text()
    assert "Options that differ" in text and "first.pth" in text
    assert text.count("<details>") == 2, "one for each result"


def test_the_best_of_a_comparison_is_a_network(folder):
    """Bicubic is better than both, which repeat pixels."""
    assert main(["results/first", "results/second", "-o", "page.html"]) == 0
    rows = re.findall(r"<tr[^>]*><th scope=\"row\">.*?</tr>", Path("page.html").read_text())
    best = [[" class=best" in cell for cell in re.findall(r"<td[^>]*>", row)] for row in rows]
    assert best and all(row[:2].count(True) == 1 and not any(row[2:]) for row in best)


def test_sets_that_not_all_have_are_named(capsys):
    assert main(["results/first", "results/two_sets"]) == 0
    assert "note: left out, because not all results have them: set1" in capsys.readouterr().out


def test_results_are_labelled_by_the_shortest_endings_that_differ(tmp_path):
    assert labels([tmp_path / "a/x", tmp_path / "a/y"]) == ["x", "y"]
    assert labels([tmp_path / "a/x", tmp_path / "b/x"]) == ["a/x", "b/x"]
    with pytest.raises(UserError, match="named twice"):
        labels([tmp_path / "a", tmp_path / "b/../a"])


def test_one_result_is_no_comparison():
    with pytest.raises(UserError, match="name at least two"):
        main(["results/first"])


def test_a_folder_that_is_no_result_is_named(tmp_path):
    with pytest.raises(UserError, match=r"has no metrics\.json: expected a folder that vsr test wrote"):
        main(["results/first", str(tmp_path)])


def edit(folder, **changes):
    file = folder / "metrics.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def cut_table(folder):
    lines = (folder / "metrics.csv").read_text().splitlines(keepends=True)
    (folder / "metrics.csv").write_text("".join(lines[:-3]))


SPOILT = {
    "another version": (lambda f: edit(f, format=99), r"is of another version \(format 99, expected 1\): test again"),
    "an old version": (lambda f: edit(f, format=None), r"is of another version \(format None, expected 1\)"),
    "an unfinished test": (lambda f: edit(f, complete=False), r"its test did not finish \(1 test sets done\)"),
    "half a file": (lambda f: (f / "metrics.json").write_text('{"format": 1,'), r"metrics\.json is damaged"),
    "no mapping": (lambda f: (f / "metrics.json").write_text("[]"), r"is of another version \(format none"),
    "no table": (lambda f: (f / "metrics.csv").unlink(), r"has no metrics\.csv: test again"),
    "half a table": (cut_table, r"metrics\.csv and metrics\.json are of different tests \(test set set0\)"),
    "another table": (lambda f: (f / "metrics.csv").write_text("a,b\n1,2\n"), r"metrics\.csv is damaged"),
    "a table of text": (
        lambda f: (f / "metrics.csv").write_text("dataset,method,clip,frame,psnr\nset0,network,a,b,text\n"),
        r"metrics\.csv is damaged \(.*could not convert",
    ),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_spoilt_result_ends_in_one_message(spoilt, fault):
    spoil, message = SPOILT[fault]
    spoil(spoilt)
    with pytest.raises(UserError, match=message) as told:
        main(["results/first", str(spoilt)])
    assert str(spoilt) in str(told.value) and "\n" not in str(told.value)


def test_results_without_a_common_set_are_refused(spoilt):
    for name in ("metrics.json", "metrics.csv"):
        (spoilt / name).write_text((spoilt / name).read_text().replace("set0", "other"))
    with pytest.raises(UserError, match="no test set in common: first has set0; spoilt has other"):
        main(["results/first", str(spoilt)])


@pytest.mark.parametrize("fault", ["another test", "damaged"])
def test_a_report_of_another_test_is_left_out_with_a_warning(spoilt, capsys, fault):
    text = (spoilt / "report.html").read_text()
    if fault == "damaged":
        (spoilt / "report.html").write_text(text.replace('"sets":[', '"sets":['[:4]))
    else:
        edit(spoilt, tested="2000-01-01T00:00:00")
    assert main(["results/first", str(spoilt)]) == 0
    assert "its pictures are left out" in capsys.readouterr().out
    (own,) = data_of(Path("compare.html"))["sets"]
    assert "spoilt" not in own["clips"][0]["shots"][0]["images"]


def test_other_frames_and_protocols_are_noted(folder, capsys):
    small_test(folder, "other", val__metrics={"psnr": {"type": "calculate_psnr", "crop_border": 4}})
    small_test(folder, "centre", val__center_frame_only=True)
    assert main(["results/first", "results/other"]) == 0
    assert (
        "note: set0: the protocols differ (first: psnr set0-rgb; other: psnr set0-rgb+crop4)" in capsys.readouterr().out
    )
    assert main(["results/first", "results/centre"]) == 0
    assert "note: set0: the frames differ (first 10, centre 2)" in capsys.readouterr().out
    assert "the frames differ" in Path("compare.html").read_text()


def test_only_a_page_is_replaced():
    Path("mine.txt").write_text("keep me")
    with pytest.raises(UserError, match=r"-o mine\.txt exists and is no page"):
        main(["results/first", "results/second", "-o", "mine.txt"])
    assert Path("mine.txt").read_text() == "keep me"
    assert main(["results/first", "results/second"]) == main(["results/first", "results/second"]) == 0


def test_results_with_different_metrics_are_compared_by_those_that_they_share(folder, capsys):
    psnr = {"type": "calculate_psnr", "crop_border": 0}
    ssim = {"type": "calculate_ssim", "crop_border": 0}
    small_test(folder, "psnr_mae", val__metrics={"psnr": psnr, "mae": {**psnr, "crop_border": 4}})
    small_test(folder, "psnr_ssim", val__metrics={"psnr": psnr, "ssim": ssim})
    capsys.readouterr()
    assert main(["results/psnr_mae", "results/psnr_ssim", "-o", "metrics.html"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("psnr\n") and "nan" not in text and "the protocols differ" not in text
    assert "\nmae\n" not in text and "\nssim\n" not in text
    assert (
        "note: set0: measured for one result only, so without a table here: mae of psnr_mae, ssim of psnr_ssim" in text
    )
    assert data_of(Path("metrics.html"))["sets"][0]["metrics"] == ["psnr", "ssim", "mae"]
    small_test(folder, "ssim", val__metrics={"ssim": ssim})
    capsys.readouterr()
    assert main(["results/first", "results/psnr_mae", "results/psnr_ssim", "results/ssim"]) == 0
    tables = capsys.readouterr().out.split("\n\n")
    assert [table.splitlines()[2].split().count("–") for table in tables[:2]] == [1, 2]
