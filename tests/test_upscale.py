"""``vsr upscale``: any video in, any video out."""

import numpy as np
import pytest
from synthetic import moving_texture
from upscaling import film, network, packets, pictures, run, times


@pytest.fixture(scope="module")
def same(tmp_path_factory):
    """The arguments of a network that is the identity."""
    return network(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def texture():
    return np.stack(moving_texture(12, (32, 48), 1))[..., ::-1]


def test_a_film_comes_out_four_times_as_large(tmp_path, texture):
    given = film(tmp_path / "a.mkv", texture, sound="aac")
    run(given, *network(tmp_path, scale=4), "--codec", "ffv1", "--pix-fmt", "yuv444p")
    out = tmp_path / "a_x4.mkv"
    for frame, sr in zip(pictures(given), pictures(out), strict=True):
        assert np.abs(sr.astype(int) - frame.repeat(4, 0).repeat(4, 1)).max() <= 1
    assert times(out) == times(given)
    assert packets(out, "audio") == packets(given, "audio")
    assert not (tmp_path / "a_x4.mkv.partial").exists()


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
