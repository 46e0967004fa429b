"""Colours of videos: bars through a network that is the identity come back, in every matrix, range and depth."""

import shutil
import subprocess
from itertools import product

import av
import numpy as np
import pytest
from upscaling import network, run

from vsr.data.video.reader import decode

WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}  # red and blue, ITU-T H.273
BARS = np.array([[r, g, b] for r, g, b in product((0.0, 0.75), repeat=3)] + [[1, 1, 1], [0.1, 0.6, 0.3]])
SIZE = 16  # of a bar
CASES = list(product([1, 6], [False, True], [8, 10]))
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="Debian's ffmpeg is not installed")


def codes(rgb, matrix, is_full, depth):
    """Returns Y, Cb, Cr of RGB in [0, 1] as integers."""
    kr, kb = WEIGHTS[matrix]
    y = rgb @ [kr, 1 - kr - kb, kb]
    chroma = (rgb[..., 2] - y) / (2 * (1 - kb)), (rgb[..., 0] - y) / (2 * (1 - kr))
    step, half, largest = 2 ** (depth - 8), 2 ** (depth - 1), 2**depth - 1
    if is_full:
        planes = y * largest, *(c * largest + half for c in chroma)
    else:
        planes = (219 * y + 16) * step, *(224 * step * c + half for c in chroma)
    return [np.rint(plane).clip(0, largest).astype(np.uint8 if depth == 8 else np.uint16) for plane in planes]


def planes_of(frame):
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    return [np.frombuffer(bytes(p), kind).reshape(p.height, -1)[:, : p.width].astype(int) for p in frame.planes]


def bars(file, matrix, is_full, depth, tags=True):
    """Writes three frames of vertical bars, 4:2:0, lossless, with these tags; returns their codes."""
    values = codes(BARS, matrix, is_full, depth)
    with av.open(str(file), "w") as target:
        stream = target.add_stream("ffv1", rate=25)
        stream.height, stream.width = 48, SIZE * len(BARS)
        stream.pix_fmt = "yuv420p" if depth == 8 else "yuv420p10le"
        if tags:
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if is_full else 1
            stream.codec_context.color_primaries = stream.codec_context.color_trc = matrix
        frame = av.VideoFrame(stream.width, 48, stream.pix_fmt)
        for plane, value in zip(frame.planes, values, strict=True):
            rows = np.zeros((plane.height, plane.line_size // value.itemsize), value.dtype)
            rows[:, : plane.width] = value.repeat(plane.width // len(BARS))
            plane.update(rows.tobytes())
        for number in range(3):
            frame.pts = number
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return values


@pytest.fixture(scope="module")
def same(tmp_path_factory):
    return network(tmp_path_factory.mktemp("network"))


def centres(planes):
    """Returns the code in the middle of each bar, by plane."""
    return [
        plane[plane.shape[0] // 2, plane.shape[1] // len(BARS) // 2 :: plane.shape[1] // len(BARS)] for plane in planes
    ]


@pytest.mark.parametrize(("matrix", "is_full", "depth"), CASES)
def test_bars_come_back_within_two_levels(tmp_path, same, matrix, is_full, depth):
    values = bars(tmp_path / "bars.mkv", matrix, is_full, depth)
    run(tmp_path / "bars.mkv", *same, "--codec", "ffv1", "-o", tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as out:
        frames = list(out.decode(video=0))
        context = out.streams.video[0].codec_context
        assert context.pix_fmt == ("yuv420p" if depth == 8 else "yuv420p10le")
        assert (context.colorspace, context.color_range) == (matrix, 2 if is_full else 1)
        assert (context.color_primaries, context.color_trc) == (matrix, matrix)
    assert len(frames) == 3
    for frame in frames:
        for plane, value in zip(centres(planes_of(frame)), values, strict=True):
            assert np.abs(plane - value).max() <= 2


@pytest.mark.parametrize(("matrix", "is_full", "depth"), [*CASES, (9, False, 10)])
def test_the_reader_s_rgb_is_that_of_the_standard(tmp_path, matrix, is_full, depth):
    bars(tmp_path / "bars.mkv", matrix, is_full, depth)
    pixels, _ = next(decode(tmp_path / "bars.mkv"))
    assert pixels[24, SIZE // 2 :: SIZE] == pytest.approx(BARS * 255, abs=1.6)  # rounded twice


@needs_ffmpeg
@pytest.mark.parametrize(("matrix", "is_full", "depth"), CASES)
def test_ffmpeg_sees_the_same_colours_in_input_and_output(tmp_path, same, matrix, is_full, depth):
    bars(tmp_path / "bars.mkv", matrix, is_full, depth)
    run(tmp_path / "bars.mkv", *same, "-o", tmp_path / "out.mp4", "--crf", "4")
    rgb = []
    for name in ("bars.mkv", "out.mp4"):
        command = ["ffmpeg", "-v", "error", "-i", tmp_path / name, "-frames:v", "1", "-pix_fmt", "rgb24"]
        command += ["-sws_flags", "bicubic+full_chroma_int+accurate_rnd", "-f", "rawvideo", "-"]
        data = subprocess.run(command, capture_output=True, check=True).stdout
        rgb.append(np.frombuffer(data, np.uint8).reshape(48, -1, 3)[24, SIZE // 2 :: SIZE].astype(int))
    assert np.abs(rgb[1] - rgb[0]).max() <= 3  # libx264 at crf 4 adds one level
