import memory_oracle
import pytest
import torch
from test_local_window import VALID
from test_shifts import features
from torch.autograd import gradcheck
from torch.nn.attention import SDPBackend, sdpa_kernel

from vsr.memory import whole_space
from vsr.memory.whole_space import frame_weights, position_weights, whole_space_read


@pytest.fixture(params=["fused", "in chunks"])
def back_end(request, monkeypatch):
    if request.param == "fused":
        yield
        return
    monkeypatch.setattr(whole_space, "_MAX_SCORES_BYTES", 8 * 2 * 90 * 7)  # 7 queries of the 30 at once
    with sdpa_kernel(SDPBackend.MATH):
        yield


@pytest.mark.usefixtures("back_end")
@pytest.mark.parametrize("valid", [None, VALID])
@pytest.mark.parametrize("value_channels", [4, 7])
def test_equals_the_read_with_explicit_scores(value_channels, valid):
    query, keys = features()
    values = features(c=value_channels, seed=1)[1]
    expected, per_frame = memory_oracle.pixsentence(query, keys, values, valid)
    torch.testing.assert_close(whole_space_read(query, keys, values, valid), expected)
    torch.testing.assert_close(frame_weights(query, keys, valid), per_frame)


@pytest.mark.usefixtures("back_end")
def test_gradients():
    query, keys = (x.requires_grad_() for x in features(1, 2, 2, 2, 3))
    assert gradcheck(lambda q, k: whole_space_read(q, k, None), (query, keys))


@pytest.mark.usefixtures("back_end")
def test_nothing_valid_reads_zero_with_zero_gradient():
    query, keys = (x.requires_grad_() for x in features())
    valid = torch.tensor([[False] * 3, [True] * 3])
    read = whole_space_read(query, keys, None, valid)
    read.square().sum().backward()
    for x in (read, query.grad, keys.grad):
        assert (x[0] == 0).all() and x[1].abs().min() > 0


def test_chunks_of_the_materialising_back_end_keep_their_size(monkeypatch):
    query, keys = features(b=1, t=2, c=4, h=8, w=8, dtype=torch.float32)
    monkeypatch.setattr(whole_space, "_MAX_SCORES_BYTES", 4 * 128 * 5)
    sizes = []
    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        whole_space.F,
        "scaled_dot_product_attention",
        lambda q, *a, **k: sizes.append(q.shape[2]) or attention(q, *a, **k),
    )
    with sdpa_kernel(SDPBackend.MATH):
        whole_space_read(query, keys, None)
    assert sizes == [5] * 12 + [4]


@pytest.mark.parametrize("t", [1, 3])
def test_the_back_end_that_does_not_materialise_scores_is_used(t, monkeypatch):
    query, keys = (x.requires_grad_() for x in features(t=t, dtype=torch.float32))
    chosen = []
    choose = whole_space._queries_at_once
    monkeypatch.setattr(whole_space, "_queries_at_once", lambda *a: chosen.append(choose(*a)) or chosen[-1])
    whole_space_read(query, keys, None)
    whole_space_read(query, keys, None, torch.ones(2, t, dtype=torch.bool))
    frame_weights(query, keys)
    assert [in_full for _, in_full in chosen] == [False] * 3


def test_more_frames_than_channels_still_has_frame_weights():
    query, keys = features(t=5, c=2)
    torch.testing.assert_close(frame_weights(query, keys), memory_oracle.pixsentence(query, keys, keys)[1])


def test_position_weights_are_rows_of_the_softmax():
    query, keys = features()
    weights = position_weights(query, keys, torch.tensor([[0, 0], [4, 5], [2, 3]]), VALID)
    assert weights.shape == (2, 3, 3, 5, 6)
    torch.testing.assert_close(weights.sum((2, 3, 4)), torch.ones(2, 3, dtype=torch.float64))
    read = torch.einsum("bnthw,btchw->bcn", weights, keys)
    torch.testing.assert_close(read[..., 2], whole_space_read(query, keys, None, VALID)[:, :, 2, 3])
    assert (weights[~VALID.repeat_interleave(3, 0).view(2, 3, 3)] == 0).all()


def test_batch_of_none():
    query, keys = features(b=0)
    assert whole_space_read(query, keys, None).shape == (0, 4, 5, 6)
