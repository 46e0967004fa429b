"""``vsr upscale`` after kills and signals: the same command goes on, and the result is that of one run."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from upscaling import film, network, packets, pictures, run, times

from vsr.utils.errors import UserError
from vsr.video import muxing
from vsr.video.work import Work

LENGTH = 230  # frames: three parts
COMMAND = [sys.executable, "-m", "vsr.upscale", "--device", "cpu"]
GIVEN = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []  # such as another PyAV
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": ":".join([*GIVEN, str(Path(__file__).parents[1]), str(Path(__file__).parent)]),
    "OMP_NUM_THREADS": "1",
}


def start(*arguments):
    return subprocess.Popen([*COMMAND, *map(str, arguments)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def wait_for_parts(process, folder, count):
    while process.poll() is None and len(list(folder.glob("*/*.mkv"))) < count:
        time.sleep(0.02)
    assert process.poll() is None, process.stderr.read()


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A film, the arguments of a slow network, and the frames of one run."""
    folder = tmp_path_factory.mktemp("film")
    small = np.random.default_rng(0).integers(0, 256, (LENGTH, 4, 6, 3), np.uint8)
    file = film(folder / "a.mkv", small.repeat(8, 1).repeat(8, 2), "libx264", "yuv420p", sound="aac")
    slow = network(folder, name="slow", seconds=0.004)
    run(file, *slow, "-o", folder / "whole.mkv")
    return file, slow, folder / "whole.mkv"


def assert_equal(out, whole):
    for frame, expected in zip(pictures(out), pictures(whole), strict=True):
        np.testing.assert_array_equal(frame, expected)
    assert times(out) == times(whole)
    assert packets(out, "audio") == packets(whole, "audio")


def test_a_killed_run_goes_on_and_a_second_one_at_the_same_time_is_refused(given, tmp_path, caplog):
    file, slow, whole = given
    out, partial = tmp_path / "out.mkv", tmp_path / "out.mkv.partial"
    process = start(file, *slow, "-o", out)
    wait_for_parts(process, partial, 1)
    with pytest.raises(UserError, match=r"out\.mkv is being written by process \d+ on .*: wait for it"):
        run(file, *slow, "-o", out)
    process.kill()
    process.communicate()
    assert not out.exists()
    run(file, *slow, "-o", out)
    assert_equal(out, whole)
    assert not partial.exists()


def test_ctrl_c_keeps_the_finished_parts_and_says_how_to_go_on(given, tmp_path):
    file, slow, whole = given
    out = tmp_path / "out.mkv"
    process = subprocess.Popen(
        [*COMMAND, str(file), *slow, "-o", str(out)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    wait_for_parts(process, tmp_path / "out.mkv.partial", 1)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate()
    assert process.returncode == 130
    assert re.search(r"stopped; [12]00 of 230 frames are complete in '.*out\.mkv\.partial': the same command", text)
    assert not out.exists()
    run(file, *slow, "-o", out)
    assert_equal(out, whole)


def test_other_settings_start_anew_and_say_so(given, tmp_path, capsys, monkeypatch):
    file, out, fast = given[0], tmp_path / "out.mkv", network(tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(muxing, "assemble", interrupted)
        run(file, *fast, "-o", out)
    run(file, *fast, "-o", out, "--crf", "30")
    text = "holds work with other settings (crf: 18 → 30.0), kept until the output is complete: starting anew"
    assert text in capsys.readouterr().out
    assert len(pictures(out)) == LENGTH
    assert not (tmp_path / "out.mkv.partial").exists()


def test_an_existing_output_is_replaced_only_where_asked_for(given, tmp_path):
    file, _, whole = given
    shutil.copy(whole, tmp_path / "out.mkv")
    before = (tmp_path / "out.mkv").read_bytes()
    fast = network(tmp_path)
    with pytest.raises(UserError, match=r"out\.mkv' exists: --overwrite replaces it"):
        run(file, *fast, "-o", tmp_path / "out.mkv", "--frames", "3")
    assert (tmp_path / "out.mkv").read_bytes() == before
    run(file, *fast, "-o", tmp_path / "out.mkv", "--frames", "3", "--overwrite")
    assert len(pictures(tmp_path / "out.mkv")) == 3


def test_an_output_that_was_there_before_is_not_taken_for_the_result(given, tmp_path, monkeypatch, capsys):
    file, out, fast = given[0], tmp_path / "out.mkv", network(tmp_path)
    out.write_bytes(b"older")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(muxing, "assemble", interrupted)
        run(file, *fast, "-o", out, "--frames", "3", "--overwrite")
    with pytest.raises(UserError, match=r"out\.mkv' exists: --overwrite replaces it"):
        run(file, *fast, "-o", out, "--frames", "3")
    assert out.read_bytes() == b"older"
    run(file, *fast, "-o", out, "--frames", "3", "--overwrite")
    assert "written in 1 part (1 done before)" in capsys.readouterr().out
    assert len(pictures(out)) == 3


@pytest.mark.parametrize("arguments", [[], ["--png"]])
def test_a_kill_after_the_output_has_its_name_leaves_it(given, tmp_path, monkeypatch, capsys, arguments):
    file, out, fast = given[0], tmp_path / ("out" if arguments else "out.mkv"), network(tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Work, "remove", interrupted)
        run(file, *fast, "-o", out, "--frames", "3", *arguments)
    run(file, *fast, "-o", out, "--frames", "3", *arguments)
    assert f"'{out}' is complete\n" in capsys.readouterr().out
    assert not out.with_name(f"{out.name}.partial").exists()


@pytest.mark.slow
def test_twenty_five_random_kills_change_nothing(given, tmp_path):
    file, slow, whole = given
    out, seed = tmp_path / "out.mkv", random.Random(0)
    kills = 0
    while not out.exists() or (tmp_path / "out.mkv.partial").exists():
        process = start(file, *slow, "-o", out)
        try:
            process.communicate(timeout=seed.uniform(3, 7) if kills < 25 else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
        if kills < 25 and out.exists():  # again, from a random moment
            assert_equal(out, whole)
            out.unlink()
    assert kills == 25
    assert_equal(out, whole)


@pytest.mark.slow
def test_a_full_disk_is_one_message_and_nothing_is_lost(given, tmp_path):
    """The largest size of a file stands for the disk's."""
    out = tmp_path / "out.mkv"
    command = [*COMMAND, str(given[0]), *network(tmp_path), "-o", str(out), "--codec", "ffv1"]
    limited = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", *command]
    done = subprocess.run(limited, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "larger than this file system, or `ulimit -f`, lets a file be" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not out.exists()
    subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True)
    assert len(pictures(out)) == LENGTH


@pytest.mark.slow
def test_memory_does_not_depend_on_the_length(tmp_path):
    tiny, peaks = network(tmp_path), []
    for length in (200, 2000):
        frames = np.random.default_rng(0).integers(0, 256, (length, 32, 32, 3), np.uint8)
        file = film(tmp_path / f"{length}.mkv", frames, "libx264", "yuv420p")
        done = subprocess.run([*COMMAND, str(file), *tiny], env=ENVIRONMENT, capture_output=True, text=True, check=True)
        number, unit = re.search(r"frames/s, ([\d.]+) (MB|GB) of memory", done.stdout).groups()
        peaks.append(float(number) * (1000 if unit == "GB" else 1))
    assert peaks[1] <= 1.1 * peaks[0]
