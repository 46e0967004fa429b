"""Pages whose commands are run as they are written."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from documents import ROOT, commands
from load_script import load_script
from videos import write_video

from vsr import __main__ as vsr_commands

SMALL = {  # of every training
    "train.total_iter": 2,
    "train.scheduler.periods": [2],
    "datasets.train.gt_size": 64,
    "datasets.train.batch_size_per_gpu": 1,
    "datasets.train.num_worker_per_gpu": 0,
    "num_gpu": 0,
}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the page uses ffmpeg")
def test_the_page_on_own_films(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("options", "vsr"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("my_films/a.mp4", "films/b.mp4", "kept.mp4", "film.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        rows, columns = np.mgrid[:96, :128]
        waves = [[np.sin((rows + c * columns) / 6 + t / 4) for c in (1, 2, 3)] for t in range(7)]
        write_video(tmp_path / name, (127 + 100 * np.array(waves)).astype(np.uint8).transpose(0, 2, 3, 1))
    page = ROOT / "docs/own_films.md"
    for file, text in re.findall(r"`(\w+\.yml)`[^`]*?```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        (tmp_path / file).write_text(text)
    for command in commands(page):
        program, *arguments = [word.replace("20000", "2") for word in command.words]
        if command.is_inline:
            continue
        if program == "vsr":
            changes = [f"{key}={value}" for key, value in SMALL.items()] if arguments[0] == "train" else []
            assert vsr_commands.run([*arguments, *(part for change in changes for part in ("--set", change))]) == 0
        elif program == "python":
            load_script("generate_lq").main(arguments[1:])
        else:
            subprocess.run([program, *arguments], check=True, capture_output=True)
    assert (tmp_path / "film_x4.mp4").is_file() and (tmp_path / "films.onnx").is_file()
    assert (tmp_path / "results/films/kept_table.txt").is_file()
    assert {file.name for file in (tmp_path / "experiments").glob("[!.]*")} == {"films", "films_tuned", "films_real"}
