"""Pages whose commands are run as they are written, but for those that a comment marks (``# needs …``)."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from documents import ROOT, commands, program
from synthetic import make_clips
from videos import write_video

from vsr.utils.errors import UserError

RUN = {"README.md", "coming_from.md", "export.md", "own_films.md", "tour.md", "trouble.md", "video.md"}
NOT_RUN = {"pip", "source"}  # installing, and the environment
SMALL = {  # of every training
    "train.total_iter": 2,
    "train.scheduler.periods": [2],
    "datasets.train.gt_size": 64,
    "datasets.train.batch_size_per_gpu": 1,
    "datasets.train.num_worker_per_gpu": 0,
    "num_gpu": 0,
}

MADE = {
    "own_films.md": (
        "film_x4.mp4",
        "films.onnx",
        "results/films/kept_table.txt",
        "experiments/films_tuned",
        "experiments/films_val",
    ),
    "tour.md": ("results/my_memory/report.html", "mine_x4.mp4"),
    "README.md": ("film_x4.mp4",),
    "video.md": ("in_x4.mp4", "out.mp4"),
    "export.md": ("small.onnx",),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The repository's folder with small data: films, and the demo's clips."""
    monkeypatch.chdir(tmp_path)
    for name in ("options", "vsr"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("films/a.mp4", "films/b.mp4", "kept.mp4"):
        write_film(tmp_path / name, 7, (96, 128))
    for name in ("film.mp4", "in.mp4"):
        write_film(tmp_path / name, 101, (32, 48))
    clips = make_clips(tmp_path / "datasets/demo", num_frames=10, gt_size=(128, 160))
    for phase, clip in zip(("train", "test"), clips.clips, strict=True):
        (tmp_path / f"datasets/demo/meta_info_{phase}.txt").write_text(f"{clip} 10 (128,160,3)\n")
    shutil.copytree(clips.lq / "000", tmp_path / "frames")
    return tmp_path


def write_film(file, num_frames, size):
    file.parent.mkdir(exist_ok=True)
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = [[np.sin((rows + c * columns) / 6 + t / 4) for c in (1, 2, 3)] for t in range(num_frames)]
    write_video(file, (127 + 100 * np.array(waves)).astype(np.uint8).transpose(0, 2, 3, 1))


def run(command, monkeypatch):
    """Runs a command of a page and returns its exit code; a training has two iterations."""
    words = [re.sub(r"net_g_\d+", "net_g_2", word) for word in command.words]
    found = program(words)
    if found is None:
        return subprocess.run(words, capture_output=True).returncode
    main, arguments = found
    if "train" in arguments[:1] and "--check" not in arguments:
        arguments += [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    try:
        return (main() if main.__code__.co_argcount == 0 else main(arguments)) or 0
    except SystemExit as stop:  # --help
        return stop.code or 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RUN))
def test_the_commands_of_a_page_run(name, folder, monkeypatch):
    page = ROOT / name if name == "README.md" else ROOT / "docs" / name
    for file, text in re.findall(r"`(\w+\.yml)`[^`]*?```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        (folder / file).write_text(text)
    for command in commands(page):
        if command.is_inline or command.needs_data or command.words[0] in NOT_RUN:
            continue
        if command.words[0] == "ffmpeg" and shutil.which("ffmpeg") is None:
            pytest.skip("the page uses ffmpeg")
        if "network_g.deformable_grops=4" in command.words:  # the tour shows a mistake
            with pytest.raises(UserError, match="did you mean 'deformable_groups'"):
                run(command, monkeypatch)
        else:
            assert run(command, monkeypatch) == 0, str(command)
    assert all((folder / file).exists() for file in MADE.get(name, ()))
