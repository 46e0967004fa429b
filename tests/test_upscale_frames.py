"""``vsr upscale``: image files of 16 bits, odd sizes, and folders of PNG files that a kill interrupts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic import moving_texture
from upscaling import film, network, pictures, run

from vsr.data.sources.images import decode
from vsr.utils.errors import UserError
from vsr.video.pictures import output_size, resized


@pytest.fixture(scope="module")
def same(tmp_path_factory):
    """The arguments of a network that is the identity."""
    return network(tmp_path_factory.mktemp("network"))


def write_deep(folder, suffix, num_frames=3):
    """Writes frames of 16 bits, whose lower 8 bits are not those of 8-bit frames; returns them, RGB."""
    folder.mkdir()
    frames = np.random.default_rng(0).integers(0, 65536, (num_frames, 4, 6, 3)).astype(np.uint16)
    frames = frames.repeat(8, 1).repeat(8, 2)
    for number, frame in enumerate(frames):
        assert cv2.imwrite(str(folder / f"{number:03d}{suffix}"), frame[..., ::-1])
    return frames


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_frames_of_16_bits_stay_so(tmp_path, same, suffix):
    frames = write_deep(tmp_path / "f", suffix)
    run(tmp_path / "f", *same)
    for number, frame in enumerate(frames):
        out = cv2.imread(str(tmp_path / "f_x1" / f"{number:03d}.png"), cv2.IMREAD_UNCHANGED)
        assert out.dtype == np.uint16
        np.testing.assert_array_equal(out[..., ::-1], frame)


def test_frames_of_16_bits_become_a_film_of_10(tmp_path, same):
    import av

    frames = write_deep(tmp_path / "f", ".png")
    run(tmp_path / "f", *same, "-o", tmp_path / "a.mkv", "--codec", "ffv1", "--pix-fmt", "yuv444p10")
    for out, frame in zip(pictures(tmp_path / "a.mkv"), frames, strict=True):
        assert np.abs(out.astype(int) - (frame / 257.0)).max() <= 1.1
    run(tmp_path / "f", *same, "-o", tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as out:
        assert out.streams.video[0].codec_context.pix_fmt == "yuv420p10le"


def test_a_training_set_reads_frames_of_16_bits_as_8(tmp_path):
    frame = write_deep(tmp_path / "f", ".png", 1)[0]
    np.testing.assert_array_equal(decode((tmp_path / "f" / "000.png").read_bytes(), "x"), (frame >> 8).astype(np.uint8))


def test_frames_of_floats_are_refused(tmp_path, same):
    (tmp_path / "f").mkdir()
    cv2.imwrite(str(tmp_path / "f" / "0.tif"), np.zeros((8, 8, 3), np.float32))
    with pytest.raises(UserError, match=r"0\.tif' cannot be decoded: it is an image of float32 values; frames have 8"):
        run(tmp_path / "f", *same)


ODD = {(): (50, 34), ("--scale", "1.55"): (76, 52), ("--height", "48"): (72, 48)}


@pytest.mark.parametrize("arguments", ODD)
def test_odd_sizes_repeat_the_last_pixels_and_say_so(tmp_path, same, capsys, arguments):
    odd, (w, h) = np.stack(moving_texture(3, (33, 49), 1))[..., ::-1], ODD[arguments]
    given = film(tmp_path / "a.mkv", odd, "ffv1", "yuv444p")
    run(given, *same, "--codec", "ffv1", "-o", tmp_path / "b.mkv", *arguments)
    assert pictures(tmp_path / "b.mkv")[0].shape == (h, w, 3)
    text = capsys.readouterr().out
    assert "yuv420p needs even sizes: " in text
    assert f"become {w} x {h}, by repeating the last pixels; --pix-fmt yuv444p keeps odd ones" in text


def test_a_444_film_keeps_its_odd_size(tmp_path, same, capsys):
    given = film(tmp_path / "a.mkv", np.stack(moving_texture(2, (33, 49), 1)))
    run(given, *same, "--codec", "ffv1", "-o", tmp_path / "b.mkv", "--pix-fmt", "yuv444p")
    assert pictures(tmp_path / "b.mkv")[0].shape == (33, 49, 3)
    assert "even sizes" not in capsys.readouterr().out


def test_no_row_or_column_of_an_odd_frame_is_lost():
    frame = moving_texture(1, (33, 49), 1)[0]
    kept = resized(frame, output_size(33, 49, 1, None, None, "yuv420p"))
    np.testing.assert_array_equal(kept[:33, :49], frame)
    np.testing.assert_array_equal(kept, frame[[*range(33), 32]][:, [*range(49), 48]])
    assert output_size(33, 49, 1, None, None, "yuv422p")[:2] == (33, 50)


def test_an_odd_height_that_was_asked_for_is_refused(tmp_path, same):
    given = film(tmp_path / "a.mkv", np.stack(moving_texture(2, (32, 48), 1)))
    with pytest.raises(UserError, match="--height 33: yuv420p needs an even height; try --height 34, or"):
        run(given, *same, "--height", "33")


def test_a_folder_of_frames_goes_on_after_a_kill(tmp_path, same):
    frames = np.random.default_rng(0).integers(0, 256, (230, 4, 6, 3), np.uint8)
    (tmp_path / "f").mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / "f" / f"{number:03d}.png"), frame[..., ::-1])
    slow, out = network(tmp_path, name="slow", seconds=0.01), tmp_path / "out"
    given = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    paths = os.pathsep.join([*given, str(Path(__file__).parents[1]), str(Path(__file__).parent)])
    command = [
        sys.executable,
        "-m",
        "vsr.upscale",
        "--device",
        "cpu",
        str(tmp_path / "f"),
        *slow,
        "-o",
        str(out),
        "--png",
    ]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL)
    partial = tmp_path / "out.partial"
    while process.poll() is None and not list(partial.glob("*/*.complete")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    done = {file.name: file.stat().st_mtime_ns for file in partial.glob("*/frames/*.png")}
    assert 100 <= len(done) < 230
    run(tmp_path / "f", *slow, "-o", out, "--png")
    assert not partial.exists()
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(cv2.imread(str(out / f"{number:03d}.png"))[..., ::-1], frame)
    kept = [name for name, written in done.items() if (out / name).stat().st_mtime_ns == written]
    assert len(kept) == 100  # those of the complete part
