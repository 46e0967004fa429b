import pytest
import torch
from memory_oracle import unfolded
from torch.autograd import gradcheck, gradgradcheck

from vsr.ops.local_window import shifts
from vsr.ops.local_window.shifts import inside_window, window_scores, window_sum


def features(b=2, t=3, c=4, h=5, w=6, seed=0, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    query = torch.randn(b, c, h, w, generator=random, dtype=dtype)
    return query, torch.randn(b, t, c, h, w, generator=random, dtype=dtype)


SIZES = [(1, 1, 1, 1, 1), (2, 3, 4, 5, 6), (1, 2, 3, 2, 9), (0, 2, 3, 4, 5), (3, 1, 8, 7, 1)]


@pytest.mark.parametrize("window", [1, 3, 5, 7])
@pytest.mark.parametrize("size", SIZES)
def test_scores_are_inner_products_with_the_unfolded_frames(size, window):
    query, frames = features(*size)
    expected = (query[:, None] * unfolded(frames, window)).sum(2)
    torch.testing.assert_close(window_scores(query, frames, window), expected)


@pytest.mark.parametrize("window", [1, 3, 5, 7])
@pytest.mark.parametrize("size", SIZES)
def test_sum_is_the_weighted_sum_of_the_unfolded_frames(size, window):
    query, frames = features(*size)
    weights = window_scores(query, frames, window)
    expected = (weights[:, :, None] * unfolded(frames, window)).sum(1)
    torch.testing.assert_close(window_sum(weights, frames, window), expected)


@pytest.mark.parametrize("block", [1, 17, 50])
def test_blocks_of_rows_change_nothing(monkeypatch, block):
    query, frames = features(h=9)
    whole = window_scores(query, frames, 5)
    total = window_sum(whole, frames, 5)
    monkeypatch.setattr(shifts, "_CPU_BLOCK", block)
    assert torch.equal(window_scores(query, frames, 5), whole)
    assert torch.equal(window_sum(whole, frames, 5), total)


def test_non_contiguous_maps_give_the_same():
    query, frames = features()
    scores = window_scores(query, frames, 3)
    torch.testing.assert_close(
        window_scores(
            query.to(memory_format=torch.channels_last),
            frames.flatten(0, 1).to(memory_format=torch.channels_last).view(frames.shape),
            3,
        ),
        scores,
    )
    strided = frames.repeat_interleave(2, -1)[..., ::2]
    torch.testing.assert_close(window_scores(query, strided, 3), scores)


@pytest.mark.parametrize("window", [1, 3])
def test_first_and_second_derivatives(window):
    query, frames = (x.requires_grad_() for x in features(1, 2, 1, 2, 2))
    weights = torch.randn(1, 2 * window**2, 2, 2, dtype=torch.float64, requires_grad=True)
    for function, arguments in ((window_scores, (query, frames)), (window_sum, (weights, frames))):
        assert gradcheck(lambda a, b, f=function: f(a, b, window), arguments)
        assert gradgradcheck(lambda a, b, f=function: f(a, b, window), arguments)


def test_the_three_contractions_are_one_trilinear_form():
    query, frames = (x.requires_grad_() for x in features())
    weights = torch.randn(2, 27, 5, 6, dtype=torch.float64, requires_grad=True)
    form = (weights * window_scores(query, frames, 3)).sum()
    by_weights, by_query = torch.autograd.grad(form, (weights, query), retain_graph=True)
    torch.testing.assert_close(by_weights, window_scores(query, frames, 3))
    torch.testing.assert_close(by_query, window_sum(weights, frames, 3))
    (by_frames,) = torch.autograd.grad(form, frames)
    torch.testing.assert_close((by_frames * frames).sum(), form)  # linear: Euler's identity


def test_inside_counts_the_candidates_of_corners_edges_and_middle():
    count = inside_window(4, 5, 3, torch.device("cpu")).sum(0)
    assert count[0, 0] == count[3, 4] == 4
    assert count[0, 2] == count[2, 0] == 6
    assert count[1, 2] == 9
    assert inside_window(1, 1, 5, torch.device("cpu")).sum() == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_accumulates_in_float32(dtype):
    query, frames = (x.to(dtype).requires_grad_() for x in features(c=256, dtype=torch.float32))
    scores = window_scores(query, frames, 3)
    expected = window_scores(query.double(), frames.double(), 3)
    assert scores.dtype == torch.float32
    assert (scores - expected).abs().max() < 16 * 2 * torch.finfo(dtype).eps  # |score| is about 16
    total = window_sum(scores.softmax(1), frames, 3)
    total.sum().backward()
    assert total.dtype == query.grad.dtype == frames.grad.dtype == dtype
