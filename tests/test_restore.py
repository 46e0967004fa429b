"""The loop that restores clips: what is read, how often, in which order, and what a network may return."""

import threading
import time
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from vsr.contracts import Clip, Spec
from vsr.evaluation import restore as module
from vsr.evaluation.restore import clips_of, middle_target, padding_of, restore, steps_of
from vsr.evaluation.restoring.reading import in_order
from vsr.utils.distributed import Place
from vsr.utils.errors import UserError

CPU = torch.device("cpu")


def clip_of(length=9, size=(5, 7), name="000", **changes):
    """A clip of noise, and the list of the indices that were read of it."""
    frames = np.random.default_rng(length).integers(0, 256, (length, *size, 3), np.uint8)
    reads = []

    def lq(index):
        reads.append(index)
        return frames[index]

    clip = Clip(name, tuple(f"{index:08d}" for index in range(length)), lq, None, range(length), "reflection_circle")
    return clip._replace(**changes), reads


class Middle(nn.Module):
    """Enlarges the middle frame of a window."""

    def __init__(self, **changes):
        super().__init__()
        self.spec = Spec(**{"num_frames": 5, "scale": 2, **changes})

    def forward(self, lq):
        frame = lq[:, lq.shape[1] // 2]
        return frame.repeat_interleave(2, -1).repeat_interleave(2, -2)


class Recurrent(nn.Module):
    """Adds half of the frame before to each frame of a clip: a chunk needs one frame of warm-up."""

    def __init__(self):
        super().__init__()
        self.spec = Spec(reads="clip")
        self.lengths = []

    def forward(self, lq):
        self.lengths.append(lq.shape[1])
        before = torch.cat([torch.zeros_like(lq[:, :1]), lq[:, :-1]], 1)
        return lq / 2 + before / 2


def restored(network, clips, num_threads=0, **options):
    return list(restore(network, steps_of(network.spec, clips, **options), CPU, num_threads))


@pytest.mark.parametrize("num_threads", [0, 1, 3])
@pytest.mark.parametrize("padding", ["replicate", "reflection", "reflection_circle", "circle"])
def test_each_frame_is_read_once_and_copied_once_as_bytes(num_threads, padding, monkeypatch):
    moved = []
    monkeypatch.setattr(module, "to_unit_range", lambda pixels: moved.append(pixels.dtype) or pixels / 255)
    (one, reads), (other, other_reads) = clip_of(9, padding=padding), clip_of(6, name="001", padding=padding)
    frames = restored(Middle(), [one, other], num_threads)
    assert sorted(reads) == list(range(9)) and sorted(other_reads) == list(range(6))
    assert moved == [torch.uint8] * 15
    assert [(frame.clip.name, frame.index) for frame in frames] == [("000", i) for i in range(9)] + [
        ("001", i) for i in range(6)
    ]
    for frame in frames:
        np.testing.assert_array_equal(frame.lq, frame.clip.lq(frame.index))
        np.testing.assert_array_equal(frame.sr, frame.lq.repeat(2, 0).repeat(2, 1))


def test_windows_are_the_padding_s():
    clip, _ = clip_of(6, padding="reflection_circle")
    steps = list(steps_of(Spec(num_frames=5), [clip]))
    assert [list(step.reads) for step in steps][:2] == [[4, 3, 0, 1, 2], [4, 0, 1, 2, 3]]
    assert padding_of(clip, 7) == "replicate"
    assert list(next(steps_of(Spec(num_frames=7), [clip])).reads) == [0, 0, 0, 0, 1, 2, 3]


def test_only_targets_are_restored_and_only_their_windows_read():
    clip, reads = clip_of(7, targets=range(3, 4))
    assert [frame.index for frame in restored(Middle(), [clip])] == [3]
    assert reads == [1, 2, 3, 4, 5]


def test_a_clip_that_is_read_in_order_is_read_by_one_thread():
    threads = set()
    clip, reads = clip_of(20, in_order=True)
    inner = clip.lq

    def lq(index):
        threads.add(threading.get_ident())
        time.sleep(0.001 * (index % 3))
        return inner(index)

    restored(Middle(), [clip._replace(lq=lq)], num_threads=4)
    assert reads == list(range(20)) and len(threads) == 1


@pytest.mark.parametrize("size", [(5, 7), (8, 8), (3, 11)])
def test_frames_are_padded_to_the_multiple_and_the_smallest_size_and_cropped(size):
    network = Middle(multiple=4, min_size=8)
    clip, _ = clip_of(3, size)
    frame = restored(network, [clip])[0]
    assert [x.shape for x in frame.inputs] == [(3, 8, 8 if size[1] <= 8 else 12)] * 5
    assert torch.equal(frame.inputs[2][:, -1, -1], frame.inputs[2][:, size[0] - 1, size[1] - 1])
    np.testing.assert_array_equal(frame.sr, frame.lq.repeat(2, 0).repeat(2, 1))


def test_a_network_of_clips_restores_whole_clips_unless_they_are_cut():
    clips = [clip_of(9)[0], clip_of(6, name="001")[0]]
    network = Recurrent()
    whole = restored(network, clips)
    assert network.lengths == [9, 6]
    assert [(frame.clip.name, frame.index) for frame in whole] == [("000", i) for i in range(9)] + [
        ("001", i) for i in range(6)
    ]


@pytest.mark.parametrize(("chunk", "warm_up", "look_ahead"), [(4, 1, 0), (1, 1, 0), (3, 2, 2), (20, 0, 0)])
def test_chunks_with_overlap_equal_the_whole_clip_and_each_frame_is_read_once(chunk, warm_up, look_ahead):
    clip, reads = clip_of(9)
    network = Recurrent()
    whole = restored(network, [clip])
    reads.clear()
    network.lengths.clear()
    parts = restored(network, [clip], chunk=chunk, warm_up=warm_up, look_ahead=look_ahead)
    assert reads == list(range(9)) and max(network.lengths) <= chunk + warm_up + look_ahead
    for part, frame in zip(parts, whole, strict=True):
        assert part.index == frame.index
        np.testing.assert_array_equal(part.sr, frame.sr)
    if warm_up:
        cut = restored(network, [clip], chunk=chunk, warm_up=0, look_ahead=0)
        assert any((a.sr != b.sr).any() for a, b in zip(cut, whole, strict=True)), "without warm-up a cut shows"


def test_the_parts_of_the_ranks_are_the_whole_and_neighbours():
    clips = [clip_of(9)[0], clip_of(6, name="001")[0]]
    steps = list(steps_of(Spec(num_frames=3), clips))
    parts = [Place(CPU, rank, 4).part(steps) for rank in range(4)]
    assert [step for part in parts for step in part] == steps
    frames = [frame for part in parts for frame in restore(Middle(num_frames=3), part, CPU)]
    assert [(frame.clip.name, frame.index) for frame in frames] == [(s.clip.name, s.gives[0]) for s in steps]
    assert list(restore(Middle(), [], CPU)) == []


def test_the_middle_frame_is_that_of_all_targets():
    clips = [clip_of(9)[0], clip_of(6, name="001")[0]]
    assert middle_target(clips) == (clips[0], 7)


@pytest.mark.parametrize(
    ("output", "got"),
    [
        (lambda lq: lq, r"\(1, 5, 3, 8, 8\)"),
        (lambda lq: lq[:, 2], r"\(1, 3, 8, 8\)"),
        (lambda lq: [lq], "list"),
    ],
)
def test_an_output_of_another_shape_is_one_message(output, got):
    network = Middle(multiple=4)
    network.forward = output
    message = rf"Middle returned {got} for an input of \(1, 5, 3, 8, 8\), expected \(1, 3, 16, 16\) as its spec says"
    with pytest.raises(UserError, match=message):
        restored(network, [clip_of()[0]])


def test_a_network_of_clips_that_returns_one_frame_is_one_message():
    network = Recurrent()
    network.forward = lambda lq: lq[:, 0]
    with pytest.raises(UserError, match=r"Recurrent returned \(1, 3, 5, 7\) .*, expected \(1, 9, 3, 5, 7\)"):
        restored(network, [clip_of()[0]])


def test_numbers_that_are_not_finite_are_named_with_their_frame():
    network = Middle()
    network.forward = lambda lq: torch.full((1, 3, 10, 14), torch.nan)
    with pytest.raises(UserError, match="000/00000000: network gives numbers that are not finite"):
        restored(network, [clip_of()[0]])


def test_a_frame_of_another_size_or_type_is_named():
    clip, _ = clip_of()
    small = clip._replace(lq=lambda index: clip.lq(index)[: 5 - index // 3])
    with pytest.raises(UserError, match="LQ frame '000/00000003' is 4 x 7, but '000/00000000' is 5 x 7; all frames"):
        restored(Middle(), [small])
    with pytest.raises(UserError, match=r"000/00000000: lq\(0\) returned float64 \(5, 7, 3\), expected uint8"):
        restored(Middle(), [clip._replace(lq=lambda index: clip.lq(index) / 255)])


@pytest.mark.parametrize("num_threads", [0, 2])
def test_a_frame_that_cannot_be_read_is_the_message_and_ends_the_threads(num_threads):
    clip, _ = clip_of(30)

    def lq(index):
        if index == 12:
            raise ValueError("00000012.png is truncated")
        return clip.lq(index)

    before = threading.active_count()
    with pytest.raises(UserError, match=r"00000012\.png is truncated"):
        restored(Middle(), [clip._replace(lq=lq)], num_threads)
    assert threading.active_count() == before


def test_what_is_no_clip_is_refused_with_the_set_and_the_type():
    with pytest.raises(UserError, match=r"test set mine: list returned dict, expected vsr\.contracts\.Clip"):
        clips_of([{"lq": 1, "gt": 2}], "mine")


def test_results_come_in_order_and_no_more_is_begun_than_needed():
    begun = []

    def task(number):
        begun.append(number)
        time.sleep(0.002 * (number % 3))
        return number

    results = in_order((partial(task, number) for number in range(100)), 2)
    assert [next(results) for _ in range(20)] == list(range(20))
    time.sleep(0.05)
    assert len(begun) <= 25
    results.close()
    assert len(begun) <= 25


class NeedsFive(Recurrent):
    def __init__(self):
        super().__init__()
        self.spec = self.spec._replace(min_frames=5)


def test_a_call_reads_as_many_frames_as_the_network_needs():
    network = NeedsFive()
    frames = restored(network, [clip_of(9)[0]], chunk=4, warm_up=0, look_ahead=0)
    assert network.lengths == [5, 5, 5] and [frame.index for frame in frames] == list(range(9))
    with pytest.raises(UserError, match="NeedsFive reads clips of at least 5 frames, but one has 4: leave it out"):
        restored(network, [clip_of(4)[0]])
