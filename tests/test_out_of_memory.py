"""Restoration goes on in smaller parts where memory runs out."""

import numpy as np
import pytest
import torch
from test_tiles import CPU, Enlarged, clip_of, restored

from vsr.archs import EDVR
from vsr.evaluation.restore import restore, steps_of
from vsr.utils.errors import UserError


def real_shortage():
    torch.empty(2**58)  # bytes that no machine has; PyTorch's CPU allocator raises


def cuda_shortage():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def python_shortage():
    raise MemoryError


class Hungry(Enlarged):
    """Runs out of memory above a number of pixels (frames times height times width)."""

    def __init__(self, most, shortage=real_shortage, **spec):
        super().__init__(**spec)
        self.most, self.shortage = most, shortage

    def forward(self, lq):
        if lq.shape[1] * lq.shape[-1] * lq.shape[-2] > self.most:
            self.shortage()
        return super().forward(lq)


@pytest.mark.parametrize("shortage", [real_shortage, cuda_shortage, python_shortage])
def test_a_window_goes_on_in_smaller_tiles_with_a_line_for_each_reduction(shortage, caplog):
    clip = clip_of((150, 200))
    network = Hungry(3 * 110 * 110, shortage, num_frames=3)
    tiled = restored(network, clip)
    assert caplog.messages == ["out of memory: going on with tiles of 100 pixels"]
    assert network.sizes == [(100, 100)] * 3 * 2 * 3, "later frames begin with the smaller tile"
    for a, b in zip(tiled, restored(Enlarged(num_frames=3), clip), strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1  # rounding of blended pixels


def test_a_network_of_clips_goes_on_in_segments_then_in_tiles(caplog):
    clip = clip_of((150, 200), length=40)
    segmented = restored(Hungry(20 * 150 * 200, reads="clip"), clip)
    assert caplog.messages == [f"out of memory: going on with segments of {n} frames" for n in (20, 10)]
    caplog.clear()
    tiled = restored(Hungry(10 * 120 * 120, reads="clip"), clip)
    assert caplog.messages[-2:] == [
        "out of memory: going on with segments of 3 frames",
        "out of memory: going on with tiles of 100 pixels",
    ]
    for a, b, whole in zip(segmented, tiled, restored(Enlarged(reads="clip"), clip), strict=True):
        np.testing.assert_array_equal(a, whole)
        assert np.abs(b.astype(int) - whole).max() <= 1


def test_features_are_given_up_before_tiles_become_small(caplog, monkeypatch):
    network = EDVR(num_feat=8, num_extract_block=1, num_reconstruct_block=1).eval()
    inner, most = network.from_features, 128**2

    def from_features(features, center):
        if center.shape[-1] * center.shape[-2] > most:
            cuda_shortage()
        return inner(features, center)

    monkeypatch.setattr(network, "from_features", from_features)
    steps = steps_of(network.spec, [clip_of((200, 256), length=5)._replace(targets=range(2, 4))])
    frames = list(restore(network, steps, CPU, tile_overlap=16))
    assert [frame.index for frame in frames] == [2, 3]
    assert caplog.messages == ["out of memory: going on with tiles of 128 pixels"]
    caplog.clear()
    most = 100**2
    list(restore(network, steps_of(network.spec, [clip_of((200, 256), length=5)._replace(targets=range(1))]), CPU))
    assert caplog.messages == [
        "out of memory: going on with tiles of 128 pixels",
        "out of memory: going on without keeping the features of frames",
        "out of memory: going on with tiles of 64 pixels",
    ]


def test_memory_that_does_not_suffice_for_the_smallest_part_is_one_message():
    with pytest.raises(UserError, match=r"out of memory, even with tiles of 64 pixels: .*DefaultCPUAllocator"):
        restored(Hungry(0, num_frames=3), clip_of((150, 200)))
    with pytest.raises(UserError, match="out of memory, even with tiles of 128 pixels"):
        restored(Hungry(0, num_frames=3, min_size=128), clip_of((150, 200)))


def test_other_errors_pass():
    network = Enlarged(num_frames=3)

    def forward(lq):
        raise RuntimeError("shapes differ")

    network.forward = forward
    with pytest.raises(RuntimeError, match="shapes differ"):
        restored(network, clip_of((20, 20)))
