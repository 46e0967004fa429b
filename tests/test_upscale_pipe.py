"""``vsr upscale`` through pipes: y4m in and out, frame by frame, with the shots of the film."""

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from upscaling import film, network, pictures, run

from vsr.contracts import Spec
from vsr.data.video.cuts import scene_cuts
from vsr.evaluation.restore import steps_of
from vsr.video.film import Reader, frame_names, shots
from vsr.video.pipe import _steps
from vsr.video.scan import scan
from vsr.video.sources import Source
from vsr.video.target import Settings


@pytest.fixture(scope="module")
def cut_film(tmp_path_factory):
    """Three shots of 9, 2 and 12 frames."""
    rng, frames = np.random.default_rng(0), []
    for length in (9, 12, 14):
        shot = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        frames += [np.roll(shot, number // 2, 1) for number in range(length)]
    return film(tmp_path_factory.mktemp("film") / "a.mkv", np.stack(frames), "ffv1", "yuv444p")


@pytest.mark.parametrize("spec", [Spec(num_frames=5), Spec(num_frames=1), Spec(reads="clip")])
def test_a_pipe_has_the_steps_of_a_file(cut_film, spec):
    source = Source(cut_film)
    found = scan(source, 25, scene_cuts)
    assert found.cuts == [9, 21]
    clips = shots(found, "a", range(35), frame_names(source), Reader(source).read)
    expected = steps_of(spec, clips, 4, 3, 3)
    settings = Settings("cpu", segment=4, overlap=3)
    with av.open(str(cut_film)) as container:
        given = _steps(spec, container.decode(video=0), cut_film, range(35), settings)
        starts = {id(clip): start for clip, start in zip(clips, (0, 9, 21), strict=True)}
        first = 0
        for step, wanted in zip(given, expected, strict=True):
            assert list(step.reads) == list(wanted.reads)
            assert step.gives == wanted.gives
            start = starts[id(wanted.clip)]
            for index in sorted(set(step.reads)):
                if start + index >= first:
                    np.testing.assert_array_equal(step.clip.lq(index), wanted.clip.lq(index))
                    first = start + index + 1
    assert first == 35


def test_y4m_goes_in_and_out(cut_film, tmp_path):
    four = network(tmp_path, scale=2)
    command = [sys.executable, "-m", "vsr.upscale", "--device", "cpu", *four, "--pix-fmt", "yuv444p"]
    out = subprocess.run([*command, str(cut_film), "-o", "-"], capture_output=True, check=True, cwd="tests").stdout
    (tmp_path / "x.y4m").write_bytes(out)
    assert len(pictures(tmp_path / "x.y4m")) == 35
    again = network(tmp_path, name="again")
    command = [sys.executable, "-m", "vsr.upscale", "-", "-o", str(tmp_path / "b.mkv"), "--device", "cpu", *again]
    subprocess.run([*command, "--codec", "ffv1", "--pix-fmt", "yuv444p"], input=out, check=True, cwd="tests")
    run(cut_film, *four, "--codec", "ffv1", "--pix-fmt", "yuv444p", "-o", tmp_path / "direct.mkv")
    for frame, expected in zip(pictures(tmp_path / "b.mkv"), pictures(tmp_path / "direct.mkv"), strict=True):
        assert np.abs(frame.astype(int) - expected).max() <= 3


def command_of(tmp_path, given):
    return [sys.executable, "-m", "vsr.upscale", "--device", "cpu", *network(tmp_path), str(given), "-o", "-"]


def piped(tmp_path, given):
    """Returns the y4m that comes out, and the log."""
    command = command_of(tmp_path, given)
    done = subprocess.run(command, capture_output=True, check=True, cwd="tests")
    return done.stdout, done.stderr.decode()


def test_a_pipe_has_the_rate_of_the_stream_and_names_what_it_loses(tmp_path):
    """Matroska's times are whole milliseconds, of which 24000/1001 frames per second are no multiple."""
    with av.open(str(tmp_path / "a.mkv"), "w") as target:
        stream = target.add_stream("libx264", rate=Fraction(24000, 1001))
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p10le"
        stream.codec_context.color_trc = 16
        for _ in range(30):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 48, 3), np.uint8), format="rgb24")
            target.mux(stream.encode(frame.reformat(format="yuv420p10le")))
        target.mux(stream.encode(None))
    out, log = piped(tmp_path, tmp_path / "a.mkv")
    assert b" F24000:1001 " in out[:100]
    (tmp_path / "a.y4m").write_bytes(out)
    with av.open(str(tmp_path / "a.y4m")) as written:
        frames = list(written.decode(video=0))
    assert len(frames) == 30 and {frame.format.name for frame in frames} == {"yuv420p10le"}
    assert all(np.abs(frame.to_ndarray(format="gray16le").astype(int)).max() < 5000 for frame in frames)  # black
    assert "not kept: colour tags (PQ)\n" in log and "the output has no tags" in log
    shown = [0, 40, 80, 300, 340, 380, 900]
    varying = film(tmp_path / "b.mkv", np.zeros((7, 32, 48, 3), np.uint8), times=shown)
    assert (
        "not kept: the frames' times, which differ from a constant rate from frame 3 on" in piped(tmp_path, varying)[1]
    )


def test_a_reader_that_ends_early_is_one_message(tmp_path):
    given = film(tmp_path / "a.mkv", np.zeros((40, 128, 192, 3), np.uint8), "ffv1", "yuv420p")
    process = subprocess.Popen(command_of(tmp_path, given), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="tests")
    process.stdout.read(100)
    process.stdout.close()
    log = process.stderr.read().decode()
    assert process.wait() == 2
    assert log.endswith("error: the program that reads the pipe has ended before the film\n")
    assert "Traceback" not in log and "ignored" not in log
