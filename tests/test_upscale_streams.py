"""``vsr upscale``: streams that are copied, inputs that hold no pictures, HDR's metadata, ends that are missing."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type
from synthetic import moving_texture
from upscaling import film, network, packets, pictures, run, times

from vsr.data.video.side_data import NOT_KEPT, Light, light_of, not_kept
from vsr.data.video.truncation import missing_bytes
from vsr.utils.errors import UserError

MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
SUBTITLES = "1\n00:00:00,080 --> 00:00:00,200\nfirst\n\n2\n00:00:00,600 --> 00:00:00,900\nsecond\n"


@pytest.fixture(scope="module")
def same(tmp_path_factory):
    """The arguments of a network that is the identity."""
    return network(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def texture():
    return np.stack(moving_texture(25, (32, 48), 1))[..., ::-1]


@pytest.fixture
def subtitled(tmp_path, texture):
    """A second with sound and two subtitles."""
    (tmp_path / "a.srt").write_text(SUBTITLES)
    given = film(tmp_path / "plain.mkv", texture, "libx264", "yuv420p", sound="aac")
    files = given, tmp_path / "a.srt"
    with (
        av.open(str(files[0])) as source,
        av.open(str(files[1])) as texts,
        av.open(str(tmp_path / "a.mkv"), "w") as out,
    ):
        copies = [out.add_stream_from_template(stream, opaque=True) for stream in (*source.streams, *texts.streams)]
        copies[2].metadata["language"] = "fra"
        for container, first in ((source, 0), (texts, 2)):
            for packet in container.demux():
                if packet.size:
                    packet.stream = copies[first + packet.stream.index]
                    out.mux(packet)
    return tmp_path / "a.mkv"


def test_subtitles_are_copied_and_named_where_a_container_cannot_hold_them(tmp_path, same, subtitled, capsys):
    run(subtitled, *same, "-o", tmp_path / "b.mkv")
    assert packets(tmp_path / "b.mkv", "subtitle") == packets(subtitled, "subtitle")
    with av.open(str(tmp_path / "b.mkv")) as out:
        assert out.streams.subtitles[0].metadata["language"] == "fra"
    assert "subtitle stream" not in capsys.readouterr().out
    run(subtitled, *same, "-o", tmp_path / "c.mp4")
    begun, ended = capsys.readouterr().out.split("25 frames, ")
    assert ".mp4 does not hold subtitle stream 2 (" in begun and "; .mkv does" in begun
    assert "not kept: subtitle stream 2 (s" in ended


def test_a_part_of_a_film_has_the_subtitles_of_its_time(tmp_path, same, subtitled):
    run(subtitled, *same, "--start", "10", "--frames", "14", "-o", tmp_path / "b.mkv")
    assert packets(tmp_path / "b.mkv", "subtitle") == [(pytest.approx(0.2), b"second")]


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_a_part_of_a_film_begins_at_zero_with_its_sound(tmp_path, same, texture, suffix):
    given = film(tmp_path / f"a{suffix}", texture, "libx264", "yuv420p", sound="aac")
    run(given, *same, "--start", "5", "--frames", "10", "-o", tmp_path / "b.mkv")
    shown, sound = times(tmp_path / "b.mkv"), packets(tmp_path / "b.mkv", "audio")
    assert shown == pytest.approx([number / 25 for number in range(10)], abs=2e-3)
    assert 0 <= sound[0][0] < 0.03 and 0.36 < sound[-1][0] < 0.4  # a packet of AAC lasts 0.02 s
    wanted = [data for time, data in packets(given, "audio") if time >= times(given)[5]]
    for (_, data), original in zip(sound, wanted, strict=False):
        assert original.endswith(data)  # MPEG-TS has a header before each
    before = np.stack(pictures(given)).astype(int)
    for number, out in enumerate(pictures(tmp_path / "b.mkv"), 5):
        assert np.abs(before - out).mean((1, 2, 3)).argmin() == number


def test_films_without_pictures_are_refused(tmp_path, same, texture):
    with av.open(str(tmp_path / "sound.mp4"), "w") as target:
        tone = target.add_stream("aac", rate=48000)
        part = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        part.sample_rate, part.pts = 48000, 0
        target.mux([*tone.encode(part), *tone.encode(None)])
    with pytest.raises(UserError, match=r"sound\.mp4' cannot be opened: it holds no pictures"):
        run(tmp_path / "sound.mp4", *same)
    given = film(tmp_path / "a.avi", texture[:2], "mpeg4", "yuv420p")
    with av.open(str(given)) as source, av.open(str(tmp_path / "none.avi"), "w") as target:
        target.add_stream_from_template(source.streams.video[0], opaque=True)
        target.start_encoding()
    with pytest.raises(UserError, match=r"none\.avi' holds no frame that can be decoded"):
        run(tmp_path / "none.avi", *same)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.avi", "none.avi", "sound.mp4"]


def hdr(file, frames, transfer, **options):
    tags = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": transfer}
    return film(file, frames, "libx264", "yuv420p10le", options=options, **tags)


def side_data(file):
    with av.open(str(file)) as container:
        context = container.streams.video[0].codec_context
        return next(light_of(frame) for frame in container.decode(video=0)), context.color_trc


def test_hlg_is_named_and_keeps_its_tags(tmp_path, same, texture, capsys):
    given = hdr(tmp_path / "a.mkv", texture[:3], 18)
    with pytest.raises(UserError, match=r"a\.mkv' is HDR \(HLG\), and --hdr is refuse"):
        run(given, *same, "--hdr", "refuse")
    run(given, *same)
    assert side_data(tmp_path / "a_x1.mkv")[1] == 18
    assert "the network sees HLG values as if they were SDR; tags are kept" in capsys.readouterr().out


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
def test_how_an_hdr_film_was_mastered_is_kept(tmp_path, same, texture, codec):
    frames = texture[:3].repeat(3, 1).repeat(3, 2)  # libsvtav1 needs 64 pixels
    given = hdr(tmp_path / "a.mkv", frames, 16, **{"x264-params": f"mastering-display={MASTERING}:cll=1000,400"})
    run(given, *same, "--codec", codec, "-o", tmp_path / "b.mkv")
    before, after = side_data(given)[0], side_data(tmp_path / "b.mkv")[0]
    assert before.content == after.content == (1000, 400)
    assert before.mastering == pytest.approx((0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.0001, 1000))
    assert after.mastering == pytest.approx(before.mastering, abs=1e-4)


def test_what_cannot_hold_the_mastering_names_it(tmp_path, same, texture, capsys):
    given = hdr(tmp_path / "a.mkv", texture[:3], 16, **{"x264-params": f"mastering-display={MASTERING}:cll=1000,400"})
    run(given, *same, "--codec", "ffv1", "-o", tmp_path / "b.mkv")
    assert "not kept: mastering and light levels of HDR (ffv1 does not write them)" in capsys.readouterr().out
    run(given, *same, "--png")
    text = capsys.readouterr().out
    assert "as if they were SDR; the output has no tags" in text
    assert "not kept: colour tags (PQ); mastering and light levels of HDR" in text


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov", "a.avi", "a.ts"])
def test_a_short_end_that_is_missing_is_named(tmp_path, same, texture, name, capsys):
    """One frame of 25, which is too few for the counts of headers."""
    options = {"movflags": "faststart"} if name[-1] in "4v" else {}
    given, codec = tmp_path / name, "mpeg4" if name == "a.avi" else "libx264"
    with av.open(str(given), "w", options=options) as target:
        stream = target.add_stream(codec, rate=25, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *texture.shape[1:3], "yuv420p"
        for number, pixels in enumerate(texture):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    assert missing_bytes(given) == 0
    content = given.read_bytes()
    with av.open(str(given)) as source:
        last = bytes([packet for packet in source.demux(video=0) if packet.size][-1])
    given.write_bytes(content[: content.rindex(last[-64:]) if name != "a.ts" else -100])
    assert missing_bytes(given) == len(content) - given.stat().st_size
    run(given, *same, "--codec", "libx264", "-o", tmp_path / "b.mkv")
    kept = len(pictures(tmp_path / "b.mkv"))
    assert 23 <= kept <= 25
    assert f"the end of the input: it breaks off after {kept} frames" in capsys.readouterr().out


@pytest.mark.parametrize("number", [2, 24])
def test_a_packet_that_cannot_be_decoded_is_named(tmp_path, same, texture, number, capsys):
    given = film(tmp_path / "a.mkv", texture, "mjpeg", "yuvj420p")
    with av.open(str(given)) as source:
        packet = [bytes(packet) for packet in source.demux(video=0) if packet.size][number]
    given.write_bytes(given.read_bytes().replace(packet, bytes(len(packet))))
    run(given, *same, "--codec", "ffv1", "-o", tmp_path / "b.mkv")
    assert len(pictures(tmp_path / "b.mkv")) == 24
    assert "not kept: 1 packet of the input that cannot be decoded" in capsys.readouterr().out


def test_what_frames_carry_is_looked_for_by_its_names_in_pyav():
    assert {*NOT_KEPT} <= {*Type.__members__}
    frame = av.VideoFrame(16, 16, "yuv420p")
    assert not_kept(frame) == set() and light_of(frame) == Light()
