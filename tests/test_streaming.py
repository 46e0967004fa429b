"""Restoration of films: lazy steps, frames that leave as they are made, memory that does not grow, 10 bits, 16 bits."""

import re
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from test_tiles import CPU, Enlarged, clip_of, restored
from torch import nn

from vsr.archs import EDVR
from vsr.contracts import Clip
from vsr.engine.precision import restoration_type
from vsr.evaluation.restore import restore, steps_of
from vsr.evaluation.restoring.reading import FRAMES_AHEAD
from vsr.utils.errors import UserError

PEAK = """
import resource, sys
import numpy as np, torch
from test_tiles import Enlarged
from vsr.contracts import Clip
from vsr.evaluation.restore import restore, steps_of
torch.set_num_threads(1)
length, reads = int(sys.argv[1]), sys.argv[2]
def lq(index):
    return np.random.default_rng(index).integers(0, 256, (96, 128, 3), np.uint8)
shots = (Clip("film", tuple(map(str, range(100))), lq, None, range(100), in_order=True) for _ in range(length // 100))
network = Enlarged(reads=reads, num_frames=5 if reads == "window" else None)
steps = steps_of(network.spec, shots, chunk=20)
count = sum(1 for frame in restore(network, steps, torch.device("cpu"), 2))
assert count == length
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(length, reads):
    command = [sys.executable, "-c", PEAK, str(length), reads]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=sys.path[0]).stdout)


@pytest.mark.slow
@pytest.mark.parametrize("reads", ["window", "clip"])
def test_the_peak_memory_of_2000_frames_is_that_of_200(reads):
    assert peak(2000, reads) < 1.1 * peak(200, reads)


@pytest.mark.parametrize("num_threads", [0, 2])
@pytest.mark.parametrize("reads", ["window", "clip"])
def test_steps_are_taken_and_frames_read_only_a_little_ahead(reads, num_threads):
    taken, read = [], []

    def lq(index):
        read.append(index)
        return np.zeros((8, 8, 3), np.uint8)

    def shots():
        for number in range(1000):
            taken.append(number)
            yield Clip(f"{number}", tuple(map(str, range(10))), lq, None, range(10), in_order=True)

    network = Enlarged(reads=reads, num_frames=3)
    frames = restore(network, steps_of(network.spec, shots(), chunk=5), CPU, num_threads)
    for _ in range(31):
        frame = next(frames)
    assert (frame.clip.name, frame.index) == ("3", 0)
    assert len(taken) <= 4 + 2 and len(read) <= 40 + FRAMES_AHEAD + 2
    frames.close()


def test_frames_are_read_while_the_network_computes():
    read = [threading.Event() for _ in range(9)]

    def lq(index):
        read[index].set()
        return np.zeros((8, 8, 3), np.uint8)

    class Waiting(Enlarged):
        def forward(self, lq):
            self.sizes.append(len(self.sizes))
            ahead = min(self.sizes[-1] + 3, 8)
            assert read[ahead].wait(20), f"frame {ahead} is not read while frame {self.sizes[-1]} is restored"
            return super().forward(lq)

    clip = Clip("000", tuple(map(str, range(9))), lq, None, range(9), "replicate", in_order=True)
    assert len(restored(Waiting(num_frames=3), clip, num_threads=1)) == 9


def test_clips_that_are_read_in_order_and_others_may_be_mixed():
    threads = {}

    def clip(name, in_order):
        def lq(index):
            threads.setdefault(name, []).append((index, threading.get_ident()))
            return np.zeros((8, 8, 3), np.uint8)

        return Clip(name, tuple(map(str, range(20))), lq, None, range(20), in_order=in_order)

    network = Enlarged(reads="clip")
    list(restore(network, steps_of(network.spec, [clip("a", False), clip("b", True), clip("c", False)]), CPU, 4))
    assert [index for index, _ in threads["b"]] == list(range(20)) and len({thread for _, thread in threads["b"]}) == 1
    assert all(sorted(index for index, _ in threads[name]) == list(range(20)) for name in "ac")


def test_frames_of_16_bits_are_restored_in_16_bits():
    class Same(Enlarged):
        def forward(self, lq):
            return lq[:, lq.shape[1] // 2]

    clip = clip_of((9, 11), dtype=np.uint16)
    for index, sr in enumerate(restored(Same(num_frames=3, scale=1), clip)):
        assert sr.dtype == np.uint16
        np.testing.assert_array_equal(sr, clip.lq(index))


def test_the_cached_features_give_the_plain_windows_frames():
    class Plain(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network, self.spec = network, network.spec

        def forward(self, lq):
            return self.network(lq)

    torch.manual_seed(0)
    network = EDVR(num_feat=16, num_extract_block=1, num_reconstruct_block=1).eval()
    clips = [clip_of((20, 22), length=7), clip_of((20, 22), length=6)._replace(padding="replicate")]
    ours, plain = (list(restore(n, steps_of(n.spec, clips), CPU)) for n in (network, Plain(network)))
    for a, b in zip(ours, plain, strict=True):
        assert np.abs(a.sr.astype(int) - b.sr).max() <= 1


def test_bf16_restores_nearly_the_same_and_an_impossible_precision_is_refused():
    torch.manual_seed(0)
    network, clip = EDVR(num_feat=16, num_extract_block=1, num_reconstruct_block=1).eval(), clip_of((16, 20), length=5)
    exact, half = restored(network, clip), restored(network, clip, precision="bf16")
    errors = np.abs(np.stack(exact).astype(int) - np.stack(half))
    assert 0 < errors.max() <= 4
    with pytest.raises(UserError, match="precision fp16 needs a GPU; bf16 and float32 run on CPUs"):
        restored(network, clip, precision="fp16")


@pytest.mark.parametrize("has_units", [True, False])
def test_auto_is_16_bits_where_the_cpu_has_units(has_units, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_units)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    dtype, reason = restoration_type("auto", CPU)
    assert dtype == (torch.bfloat16 if has_units else None)
    assert reason.startswith("bf16: this CPU" if has_units else "float32: this CPU has no units")


@pytest.mark.parametrize(("level", "colour"), [(0, "black"), (0.5, r"the one colour (128, 128, 128)")])
def test_output_of_one_colour_is_named_with_its_frame_unless_the_input_is(level, colour, caplog):
    class Broken(Enlarged):
        def forward(self, lq):
            return torch.full_like(super().forward(lq), level)

    restored(Broken(num_frames=3), clip_of((8, 8), length=6))
    named = [re.match(r"000/(\d): the restored frame is (.*), its input is not", line) for line in caplog.messages]
    assert [match and match.groups() for match in named] == [(frame, colour) for frame in "013"]
    caplog.clear()
    flat = np.full((8, 8, 3), 90, np.uint8)
    restored(Broken(num_frames=3), clip_of((8, 8))._replace(lq=lambda _: flat))
    restored(Enlarged(num_frames=3), clip_of((8, 8)))
    assert caplog.messages == []


def test_numbers_too_large_for_16_bits_are_a_message_with_the_remedy():
    class Large(Enlarged):
        def forward(self, lq):
            return super().forward(lq) * torch.inf

    with pytest.raises(UserError, match=r"000/0: .* not finite; .*try precision float32"):
        restored(Large(num_frames=3), clip_of((8, 8)), precision="bf16")
