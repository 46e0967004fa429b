"""Tiles cover a frame, blend to one, and may be used by any network."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from vsr.archs import EDVR
from vsr.contracts import Clip, Spec
from vsr.evaluation.restore import restore, steps_of
from vsr.evaluation.restoring.tiles import tiling
from vsr.utils.errors import UserError

CPU = torch.device("cpu")


class Enlarged(nn.Module):
    """Enlarges the middle frame, or each frame of a clip, by bilinear interpolation; counts its calls' sizes."""

    def __init__(self, **spec):
        super().__init__()
        self.spec = Spec(**{"scale": 2, **spec})
        self.sizes = []

    def forward(self, lq):
        self.sizes.append(tuple(lq.shape[-2:]))
        frames = lq[0] if self.spec.reads == "clip" else lq[:, lq.shape[1] // 2]
        sr = nn.functional.interpolate(frames, scale_factor=self.spec.scale, mode="bilinear")
        return sr.unsqueeze(0) if self.spec.reads == "clip" else sr


def clip_of(size, length=3, dtype: type = np.uint8):
    frames = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (length, *size, 3), dtype, endpoint=True)
    return Clip("000", tuple(map(str, range(length))), frames.__getitem__, None, range(length))


def restored(network, clip, **options):
    return [frame.sr for frame in restore(network, steps_of(network.spec, [clip]), CPU, **options)]


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "multiple", "min_size"),
    [
        ((60, 80), 32, 8, 4, 1),
        ((60, 80), 32, 24, 4, 1),
        ((64, 16), 16, 4, 16, 1),
        ((20, 24), 10, 3, 1, 16),
        ((8, 8), 64, 8, 8, 1),
        ((37, 41), 9, 8, 1, 1),
    ],
)
def test_tiles_cover_the_frame_share_the_overlap_and_their_weights_sum_to_one(size, tile, overlap, multiple, min_size):
    spec = Spec(scale=2, multiple=multiple, min_size=min_size)
    tiles, weights = tiling(size, tile, overlap, spec, CPU)
    total = torch.zeros(2 * size[0], 2 * size[1])
    for one, weight in zip(tiles, weights, strict=True):
        for part, length in zip(one, size, strict=True):
            assert 0 <= part.start < part.stop <= length and part.start % multiple == 0
            assert (part.stop - part.start) % multiple == 0 and part.stop - part.start >= min(min_size, length)
        one.enlarged(2).of(total).add_(weight)
    torch.testing.assert_close(total, torch.ones_like(total))
    for axis in range(2):
        parts = sorted({(tile[axis].start, tile[axis].stop) for tile in tiles})
        assert parts[0][0] == 0 and parts[-1][1] == size[axis]
        assert all(a[1] - b[0] >= overlap for a, b in pairwise(parts))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("spec", [{"num_frames": 3}, {"num_frames": 3, "multiple": 8}, {"reads": "clip"}])
def test_a_network_of_small_reach_restores_tiles_as_the_whole_frame(spec, dtype):
    network, clip = Enlarged(**spec), clip_of((50, 70), dtype=dtype)
    whole = restored(network, clip)
    network.sizes.clear()
    tiled = restored(network, clip, tile=32, tile_overlap=8)
    assert set(network.sizes) == {(32, 32)}
    for a, b in zip(tiled, whole, strict=True):
        assert a.dtype == dtype and a.shape == (100, 140, 3)
        assert np.abs(a.astype(int) - b).max() <= 1  # rounding of blended pixels


def test_the_whole_frame_is_one_call_and_small_frames_stay_whole():
    network = Enlarged(num_frames=3)
    restored(network, clip_of((50, 70)))
    restored(network, clip_of((50, 70)), tile=80)
    assert set(network.sizes) == {(50, 70)}


def test_features_of_tiles_are_computed_once_a_frame(monkeypatch):
    torch.manual_seed(0)
    network = EDVR(num_feat=8, num_extract_block=1, num_reconstruct_block=1).eval()
    clip, calls = clip_of((48, 64), length=7), []
    features = network.frame_features
    monkeypatch.setattr(network, "frame_features", lambda frames: calls.append(frames.shape) or features(frames))
    whole = restored(network, clip)
    assert calls == [(1, 3, 48, 64)] * 7
    calls.clear()
    tiled = restored(network, clip, tile=32, tile_overlap=16)
    assert calls == [(1, 3, 32, 32)] * 7 * 6
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(tiled, whole, strict=True)) < 20


def test_a_tile_that_is_not_larger_than_the_overlap_is_refused():
    with pytest.raises(UserError, match="tile 32 has to be larger than tile_overlap 32"):
        restored(Enlarged(num_frames=3), clip_of((50, 70)), tile=32)
