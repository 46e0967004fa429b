"""The memory that ``vsr upscale`` names before the start, and what it does where that is not free."""

import re

import numpy as np
import pytest
import torch
from recurrent_network import RecurrentNetwork
from synthetic import moving_texture
from torch import nn
from upscaling import film, network, pictures, run

from vsr.archs import EDVR
from vsr.contracts import Spec
from vsr.video import memory
from vsr.video.film import Film
from vsr.video.memory import LiveTensors, fitted
from vsr.video.network import Loaded
from vsr.video.pictures import Size
from vsr.video.target import Settings

CPU = torch.device("cpu")


def a_film(height, width):
    return Film(height, width, 8, None, (1, 1), [0], 1, (1, 25), [], "yuv420p", [])


def needed(module, height, width, longest=1000, **settings):
    loaded = Loaded(module.eval(), module.spec, None, "", None)
    size = Size(height * 4, width * 4, 1)
    return memory._needed(loaded, a_film(height, width), longest, size, Settings(CPU, precision="float32", **settings))


def test_tensors_are_counted_while_they_live():
    with LiveTensors() as live:
        a = torch.zeros(1000)
        b = a + 1
        del a
        c = b.view(10, 100)
        d = c * 2
    assert (live.peak, live.now) == (8000, 8000)
    del b, c, d
    assert live.now == 0


def test_the_estimate_grows_with_the_frame_and_shrinks_with_tiles_and_segments():
    edvr = EDVR(num_feat=8, num_extract_block=1, num_reconstruct_block=1, deformable_groups=1)
    whole = needed(edvr, 128, 192) - memory.LIBRARIES
    assert needed(edvr, 256, 384) - memory.LIBRARIES == pytest.approx(4 * whole, rel=0.02)
    tiled = needed(edvr, 256, 384, tile=128)
    assert needed(edvr, 256, 384, tile=128, keep_features=False) < tiled < needed(edvr, 256, 384)
    recurrent = RecurrentNetwork()
    assert needed(recurrent, 64, 64, segment=10) < needed(recurrent, 64, 64, segment=30)
    assert needed(recurrent, 64, 64, longest=5) < needed(recurrent, 64, 64, longest=15)


def test_a_long_segment_s_estimate_follows_from_two_short_ones(monkeypatch):
    recurrent = RecurrentNetwork()
    short = needed(recurrent, 64, 64, segment=20)
    monkeypatch.setattr(memory, "COUNTED", (5, 1000))
    assert short == pytest.approx(needed(recurrent, 64, 64, segment=20), rel=0.02)


def test_one_line_says_the_memory_before_the_start(tmp_path, capsys):
    given = film(tmp_path / "a.mkv", np.stack(moving_texture(3, (32, 48), 1)))
    run(given, *network(tmp_path), "--dry-run")
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.search(
        r"3 frames, 48x32 → 48x32, 1 shot, written in 1 part, about [\d.]+ [MG]B of memory \([\d.]+ GB free\), by", line
    )
    assert line.endswith(f"'{tmp_path / 'a_x1.mkv'}' (libx264, yuv420p, crf 18)")


def test_smaller_parts_are_restored_where_memory_is_short(monkeypatch, caplog):
    edvr = EDVR(num_feat=8, num_extract_block=1, num_reconstruct_block=1, deformable_groups=1).eval()
    recurrent = RecurrentNetwork().eval()
    film_, size, settings = a_film(256, 384), Size(1024, 1536, 1), Settings(CPU, precision="float32")
    free = needed(edvr, 256, 384, tile=192)
    monkeypatch.setattr(memory, "free_memory", lambda _: free)
    loaded = Loaded(edvr, edvr.spec, None, "", None)
    kept = fitted(loaded, film_, 9, size, settings)[0]
    assert (kept.tile, kept.keep_features) == (192, True)
    assert "are free, so that smaller parts are restored: tiles of 192 pixels" in caplog.text
    assert fitted(loaded, film_, 9, size, settings, may_change=False)[0].tile is None
    free = needed(recurrent, 256, 384, segment=15)
    loaded = Loaded(recurrent, recurrent.spec, None, "", None)
    assert fitted(loaded, film_, 1000, size, settings)[0].segment == 15
    assert "segments of 15 frames, whole frames" in caplog.text
    free = 1
    kept = fitted(loaded, film_, 1000, size, settings)[0]
    assert (kept.segment, kept.tile) == (4, 64)
    assert "the smallest parts may still be too large" in caplog.text


def test_a_resumed_run_keeps_the_tiles_of_its_start(tmp_path, monkeypatch, capsys):
    from vsr.video import muxing

    given, same = film(tmp_path / "a.mkv", np.stack(moving_texture(3, (96, 144), 1))), network(tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(memory, "free_memory", lambda _: 1)
        patch.setattr(muxing, "assemble", interrupted)
        run(given, *same)
    assert "tiles of 64 pixels" in capsys.readouterr().out
    (manifest,) = (tmp_path / "a_x1.mkv.partial").glob("*/manifest.json")
    assert '"tile": 64' in manifest.read_text()
    run(given, *same)
    assert "written in 1 part (1 done before)" in capsys.readouterr().out
    assert len(pictures(tmp_path / "a_x1.mkv")) == 3


class Reads(nn.Module):
    """A network that reads values of its input."""

    spec = Spec(num_frames=1)

    def forward(self, lq):
        return lq[:, 0] * float(lq.mean())


def test_a_network_that_reads_values_has_no_estimate():
    loaded = Loaded(Reads(), Reads.spec, None, "", None)
    text = fitted(loaded, a_film(32, 48), 3, Size(32, 48, 1), Settings(CPU, precision="float32"))[1]
    assert re.fullmatch(r"[\d.]+ GB of memory free", text)
