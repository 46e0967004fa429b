"""``vsr upscale``: any video in, any video out."""

import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import torch
from synthetic import moving_texture
from upscaling import film, network, packets, pictures, run, times

from vsr.archs.edvr import EDVR
from vsr.engine.saving.checkpoints import save_safetensors
from vsr.utils.errors import UserError


@pytest.fixture(scope="module")
def same(tmp_path_factory):
    """The arguments of a network that is the identity."""
    return network(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def texture():
    return np.stack(moving_texture(12, (32, 48), 1))[..., ::-1]


def test_a_film_comes_out_four_times_as_large(tmp_path, texture):
    given = film(tmp_path / "caf\u00e9 \u2606.mkv", texture, sound="aac")
    run(given, *network(tmp_path, scale=4), "--codec", "ffv1", "--pix-fmt", "yuv444p")
    out = tmp_path / "caf\u00e9 \u2606_x4.mkv"
    for frame, sr in zip(pictures(given), pictures(out), strict=True):
        assert np.abs(sr.astype(int) - frame.repeat(4, 0).repeat(4, 1)).max() <= 1
    assert times(out) == times(given)
    assert packets(out, "audio") == packets(given, "audio")
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".mkv", ".mkv", ".pth", ".yml"]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_every_frame_keeps_its_own_time(tmp_path, same, texture, suffix):
    shown = np.cumsum([0, *np.random.default_rng(0).integers(10, 200, 11)]).tolist()
    given = film(tmp_path / f"a{suffix}", texture, "libx264", "yuv420p", times=shown, sound="aac")
    run(given, *same, "-o", tmp_path / f"b{suffix}")
    before, after = times(given), times(tmp_path / f"b{suffix}")
    assert np.diff(after) == pytest.approx(np.diff(before), abs=1e-3)
    sound, copied = packets(given, "audio"), packets(tmp_path / f"b{suffix}", "audio")
    assert [data for _, data in copied] == [data for _, data in sound]
    shift = after[0] - before[0]  # MPEG-TS starts anywhere
    assert [time for time, _ in copied] == pytest.approx([time + shift for time, _ in sound], abs=2e-3)


def stream_of(file):
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        tags = context.colorspace, context.color_range, context.color_primaries, context.color_trc
        return context.width, context.height, stream.sample_aspect_ratio, context.pix_fmt, tags


@pytest.mark.skipif(int(av.__version__.split(".")[0]) < 17, reason="this PyAV cannot write such a film")
def test_everything_else_is_copied(tmp_path, same, texture):
    given = film(tmp_path / "a.mkv", texture, "libx264", "yuv420p", sound="flac")
    with av.open(str(given)) as source, av.open(str(tmp_path / "b.mkv"), "w") as target:
        copies = [target.add_stream_from_template(stream, opaque=True) for stream in source.streams]
        copies[1].metadata["language"] = "deu"
        target.metadata["title"] = "Film"
        target.add_attachment("font.ttf", "application/x-truetype-font", b"0123")
        target.set_chapters(
            [{"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}]
        )
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
    run(tmp_path / "b.mkv", *same, "-o", tmp_path / "c.mkv")
    with av.open(str(tmp_path / "c.mkv")) as out:
        assert out.metadata["title"] == "Film"
        assert out.streams.audio[0].metadata["language"] == "deu"
        assert [(chapter["start"], chapter["end"], chapter["metadata"]["title"]) for chapter in out.chapters()] == [
            (0, 200_000_000, "one")
        ]
        (font,) = [stream for stream in out.streams if stream.type == "attachment"]
        assert font.data == b"0123"
    run(tmp_path / "b.mkv", *same, "-o", tmp_path / "silent.mkv", "--no-audio")
    with av.open(str(tmp_path / "silent.mkv")) as out:
        assert not out.streams.audio


def test_what_a_container_cannot_hold_is_named(tmp_path, same, texture, capsys):
    given = film(tmp_path / "a.avi", texture, "mpeg4", "yuv420p", sound="libmp3lame")
    run(given, *same)
    assert "the output is Matroska: .avi does not hold libx264" in capsys.readouterr().out
    assert len(pictures(tmp_path / "a_x1.mkv")) == 12
    film(tmp_path / "b.mkv", texture, "libx264", "yuv420p", sound="flac")
    run(tmp_path / "b.mkv", *same, "-o", tmp_path / "b.mov")
    assert "not kept: audio stream 1 (flac)" in capsys.readouterr().out


def test_a_part_of_a_film_has_its_sound(tmp_path, same, texture):
    given = film(tmp_path / "a.mkv", np.repeat(texture, 3, 0), "libx264", "yuv420p", sound="flac")
    run(given, *same, "--start", "10", "--frames", "15", "-o", tmp_path / "b.mkv")
    shown, sound = times(tmp_path / "b.mkv"), packets(tmp_path / "b.mkv", "audio")
    assert shown == pytest.approx([number / 25 for number in range(15)], abs=2e-3)
    assert 0 <= sound[0][0] <= 0.1
    assert abs(sound[-1][0] + 0.1 - 0.6) < 0.12  # a packet of FLAC is a tenth of a second


@pytest.mark.skipif(int(av.__version__.split(".")[0]) < 17, reason="this PyAV cannot write such a film")
def test_rotated_films_come_out_upright(tmp_path, same, texture):
    given = film(tmp_path / "a.mov", texture, "libx264", "yuv420p", aspect=Fraction(4, 3), rotation=90)
    run(given, *same)
    assert stream_of(tmp_path / "a_x1.mov")[:3] == (32, 48, Fraction(3, 4))
    for frame, out in zip(pictures(given), pictures(tmp_path / "a_x1.mov"), strict=True):
        assert np.abs(frame.astype(int) - out).mean() < 6


def test_interlaced_films_are_deinterlaced(tmp_path, same, texture, capsys):
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    given = film(tmp_path / "a.mp4", texture, "libx264", "yuv420p", options=options)
    run(given, *same, "-o", tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as out:
        assert not any(frame.interlaced_frame for frame in out.decode(video=0))
    assert times(tmp_path / "b.mkv") == pytest.approx(times(given), abs=1e-3)


def test_hdr_is_kept_with_a_warning_or_refused(tmp_path, same, texture, capsys):
    tags = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": 16}
    given = film(tmp_path / "a.mkv", texture, "libx264", "yuv420p10le", **tags)
    for also in ([], ["--png"]):
        with pytest.raises(UserError, match=r"a\.mkv' is HDR \(PQ\), and --hdr is refuse"):
            run(given, *same, "--hdr", "refuse", *also)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mkv"]
    run(given, *same)
    assert stream_of(tmp_path / "a_x1.mkv")[3:] == ("yuv420p10le", (9, 1, 9, 16))
    assert "the network sees PQ values as if they were SDR" in capsys.readouterr().out


def test_a_truncated_film_is_used_as_far_as_it_goes(tmp_path, same, texture, capsys):
    given = film(tmp_path / "a.mkv", np.repeat(texture, 5, 0), "libx264", "yuv420p", sound="aac")
    given.write_bytes(given.read_bytes()[: given.stat().st_size // 2])
    run(given, *same)
    kept = len(pictures(tmp_path / "a_x1.mkv"))
    assert 10 < kept < 50
    assert f"not kept: the end of the input: it breaks off after {kept} frames" in capsys.readouterr().out


@pytest.mark.parametrize("pixel_format", ["gray", "bgra"])
def test_grey_and_transparent_films(tmp_path, same, texture, pixel_format, capsys):
    given = film(tmp_path / "a.mkv", texture, "ffv1", pixel_format)
    run(given, *same, "--codec", "ffv1", "--pix-fmt", "yuv444p", "-o", tmp_path / "b.mkv")
    for frame, out in zip(pictures(given), pictures(tmp_path / "b.mkv"), strict=True):
        assert np.abs(frame.astype(int) - out).max() <= 3
    assert ("not kept: transparency (alpha)" in capsys.readouterr().out) == (pixel_format == "bgra")


def write_frames(folder, frames, name="f{}.png"):
    folder.mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / name.format(number)), frame[..., ::-1])
    return folder


def test_frames_become_frames_or_a_film(tmp_path, same, texture, capsys):
    folder = write_frames(tmp_path / "f", texture[:11])
    (folder / "notes.txt").write_text("")
    run(folder, *same)
    assert "1 file that no film consists of, such as 'notes.txt': left out" in capsys.readouterr().out
    for number in range(11):
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / "f_x1" / f"f{number}.png"))[..., ::-1], texture[number])
    for given in (folder, folder / "f*.png", folder / "f%d.png"):
        run(
            given, *same, "-o", tmp_path / "a.mkv", "--codec", "ffv1", "--pix-fmt", "bgr0", "--overwrite", "--fps", "10"
        )
        np.testing.assert_array_equal(pictures(tmp_path / "a.mkv"), texture[:11])
        assert times(tmp_path / "a.mkv") == pytest.approx([number / 10 for number in range(11)])


def test_several_inputs_have_an_output_each(tmp_path, same, texture):
    for name in ("a", "b"):
        film(tmp_path / f"{name}.mkv", texture[:3])
    run(tmp_path / "a.mkv", tmp_path / "b.mkv", *same, "-o", tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a_x1.mkv", "b_x1.mkv"]


def test_a_bad_input_among_several_does_not_stop_the_others(tmp_path, same, texture, capsys):
    (tmp_path / "a.mkv").write_text("hello")
    film(tmp_path / "b.mkv", texture[:3])
    with pytest.raises(UserError, match=r"1 of 2 inputs failed, the others are done: .*a\.mkv"):
        run(tmp_path / "a.mkv", tmp_path / "b.mkv", *same, "-o", tmp_path / "out")
    assert "a.mkv' cannot be opened" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["b_x1.mkv"]


def test_windows_stay_inside_a_shot(tmp_path, capsys):
    dark, bright = np.full((8, 32, 48, 3), 20, np.uint8), np.full((8, 32, 48, 3), 220, np.uint8)
    given = film(tmp_path / "a.mkv", np.concatenate([dark, bright]), "ffv1", "bgr0")
    mean = network(tmp_path, "WindowMean")
    run(given, *mean, "--codec", "ffv1", "--pix-fmt", "bgr0", "-o", tmp_path / "b.mkv")
    assert "2 shots" in capsys.readouterr().out
    assert [int(frame[0, 0, 0]) for frame in pictures(tmp_path / "b.mkv")] == [20] * 8 + [220] * 8
    run(given, *mean, "--codec", "ffv1", "--pix-fmt", "bgr0", "-o", tmp_path / "c.mkv", "--scene-cut", "off")
    assert [int(frame[0, 0, 0]) for frame in pictures(tmp_path / "c.mkv")][7:9] == [87, 153]


def test_preview_side_by_side_height_png_and_dry_run(tmp_path, texture):
    given, four = film(tmp_path / "a.mkv", texture), network(tmp_path, scale=4)
    run(given, *four, "--dry-run")
    run(given, *four, "--preview", "3")
    assert cv2.imread(str(tmp_path / "a_x4_frame3.png")).shape[1] > 3 * 4 * 48
    run(given, *four, "--png", "--frames", "2")
    assert cv2.imread(str(tmp_path / "a_x4" / "00000001.png")).shape == (128, 192, 3)
    run(given, *four, "--height", "64", "--side-by-side", "-o", tmp_path / "b.mkv")
    assert stream_of(tmp_path / "b.mkv")[:2] == (96, 64)


def test_black_output_is_named(tmp_path, texture, capsys):
    run(film(tmp_path / "a.mkv", texture), *network(tmp_path, gain=0.0))
    assert "00000000" in capsys.readouterr().out


BAD = {
    ("--codec", "libx266"): "--codec: FFmpeg has no encoder 'libx266'; did you mean 'libx265'?",
    ("--codec", "aac"): "--codec: 'aac' encodes audio, not video",
    ("--pix-fmt", "yuv421p"): "--pix-fmt: FFmpeg has no pixel format 'yuv421p'; did you mean",
    ("--pix-fmt", "gbrp"): "--pix-fmt: libx264 does not encode gbrp; it knows yuv420p",
    ("--start", "100"): "--start 100: the film has 12 frames, 0 to 11",
    ("--preview", "12"): "--preview 12: the film has 12 frames, 0 to 11",
    ("-o", "x.xyz"): "-o x.xyz: the container '.xyz' is not written; expected one of .mp4",
    ("-o", "x.webm"): "-o x.webm: .webm does not hold libx264; choose .mkv",
    ("--weights", "none.pth"): "none.pth does not exist",
    ("--precision", "fp16"): "precision fp16 needs a GPU",
}


def test_the_input_is_never_the_output(tmp_path, same, texture):
    given = film(tmp_path / "a.mkv", texture[:2])
    before = given.read_bytes()
    with pytest.raises(UserError, match=r"a\.mkv: the output would replace the input; name another"):
        run(given, *same, "-o", given, "--overwrite")
    folder = write_frames(tmp_path / "f", texture[:2])
    with pytest.raises(UserError, match="f: the output would replace the input"):
        run(folder, *same, "-o", folder, "--png", "--overwrite")
    assert given.read_bytes() == before and len(list(folder.iterdir())) == 2


def test_the_matrix_of_an_untagged_film_is_in_the_log(tmp_path, same, texture, capsys, caplog):
    with caplog.at_level("INFO"):
        run(film(tmp_path / "sd.mkv", texture[:2], "libx264", "yuv420p"), *same)
        run(film(tmp_path / "hd.mkv", np.zeros((2, 720, 32, 3), np.uint8), "libx264", "yuv420p"), *same)
    text = caplog.text + capsys.readouterr().out
    assert "sd.mkv' has no colour tags: read as BT.601, since it has 32 lines" in text
    assert "hd.mkv' has no colour tags: read as BT.709, since it has 720 lines" in text


@pytest.mark.parametrize("arguments", BAD)
def test_mistakes_are_one_message_and_leave_nothing(tmp_path, same, texture, arguments, monkeypatch):
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "a.mkv", texture)
    with pytest.raises(UserError) as error:
        run("a.mkv", *same, *arguments)
    assert str(error.value).startswith(BAD[arguments])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mkv"]


def test_inputs_that_are_none(tmp_path, same):
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty").mkdir()
    for given, expected in {
        "none.mp4": "none.mp4' does not exist; give a video, a folder of frames",
        "x*.png": r"x\*.png' matches no file",
        "text.mp4": "text.mp4' cannot be opened: 5 bytes that are damaged, truncated, or no video",
        "empty": "empty' holds neither videos nor frames",
    }.items():
        with pytest.raises(UserError, match=expected):
            run(tmp_path / given, *same)
    write_frames(tmp_path / "two", [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 16, 3), np.uint8)])
    with pytest.raises(UserError, match=r"f1\.png' is 8 x 16, but 'f0\.png' is 8 x 8; one film has one size"):
        run(tmp_path / "two", *same)


def test_weights_that_describe_no_network_ask_for_the_options(tmp_path, same, texture):
    with pytest.raises(UserError, match=r"network\.pth"):
        run(film(tmp_path / "a.mkv", texture), "--weights", same[3])


def test_a_network_that_ships_has_a_name(tmp_path, texture):
    given = film(tmp_path / "a.mkv", texture[:2])
    assert run(given, "--weights", "basicvsr_small", "--dry-run") == 0
    with pytest.raises(UserError, match=r"basicvsr_smal does not exist; .* that ships: basicvsr_small, edvr_small"):
        run(given, "--weights", "basicvsr_smal")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_say_what_network_they_are_of(tmp_path, texture, suffix):
    """BasicSR's file by its names and shapes, vsr train's by its description."""
    settings = {"num_feat": 8, "num_frame": 3, "deformable_groups": 1, "num_extract_block": 1}
    weights = EDVR(**settings, num_reconstruct_block=1).state_dict()
    file = tmp_path / f"edvr{suffix}"
    if suffix == ".pth":
        torch.save({"params": weights}, file)
    else:
        options = json.dumps({"type": "EDVR", **settings, "num_reconstruct_block": 1})
        save_safetensors(file, weights, {"vsr.network": options, "vsr.scale": "4"})
    run(film(tmp_path / "a.mkv", texture[:2, :16, :16]), "--weights", file)
    assert stream_of(tmp_path / "a_x4.mkv")[:2] == (64, 64)
