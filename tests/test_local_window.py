import memory_oracle
import pytest
import torch
from test_shifts import features
from torch.autograd import gradcheck

from vsr.memory.local_window import allowed_candidates, local_window_read, masked_softmax
from vsr.memory.shifts import window_scores, window_sum

VALID = torch.tensor([[True, False, True], [False, True, False]])


@pytest.mark.parametrize("valid", [None, VALID])
@pytest.mark.parametrize("window", [1, 3, 5, 11])
def test_equals_the_unfolded_read(window, valid):
    query, keys = features()
    values = features(c=7, seed=1)[1]
    read, weights = local_window_read(query, keys, values, window, valid)
    expected_read, expected_weights = memory_oracle.pixwise(query, keys, values, window, valid)
    torch.testing.assert_close(weights, expected_weights)
    torch.testing.assert_close(read, expected_read)


def test_no_values_reads_the_keys():
    query, keys = features()
    for ours, expected in zip(
        local_window_read(query, keys, None, 3), local_window_read(query, keys, keys, 3), strict=True
    ):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("own_values", [True, False])
@pytest.mark.parametrize("valid", [None, VALID[:1, :2]])
def test_gradients(own_values, valid):
    query, keys = (x.requires_grad_() for x in features(1, 2, 2, 3, 1))
    values = features(1, 2, 3, 3, 1, seed=1)[1].requires_grad_() if own_values else None
    arguments = (query, keys, values) if own_values else (query, keys)
    assert gradcheck(lambda q, k, v=None: tuple(local_window_read(q, k, v, 3, valid)), arguments)
    assert gradcheck(lambda q, k, v=None: local_window_read(q, k, v, 3, valid).read, arguments)
    assert gradcheck(lambda q, k, v=None: local_window_read(q, k, v, 3, valid).weights, arguments[:2])


def test_gradients_equal_those_of_the_composition():
    leaves = [x.requires_grad_() for x in features()]
    query, keys = leaves
    weights = masked_softmax(window_scores(query, keys, 5), allowed_candidates(keys, 5, VALID))
    composed = torch.autograd.grad(window_sum(weights, keys, 5).square().sum(), leaves)
    fused = torch.autograd.grad(local_window_read(query, keys, None, 5, VALID).read.square().sum(), leaves)
    for ours, expected in zip(fused, composed, strict=True):
        torch.testing.assert_close(ours, expected)


def test_only_needed_gradients_are_computed():
    query, keys = features()
    query.requires_grad_()
    local_window_read(query, keys, None, 3).read.sum().backward()
    assert query.grad is not None and keys.grad is None
    values = features(seed=2)[1].requires_grad_()
    local_window_read(query.detach(), keys, values, 3).read.sum().backward()
    torch.testing.assert_close(values.grad.sum(), torch.tensor(float(query.numel()), dtype=torch.float64))


def test_candidates_outside_the_frame_have_no_weight_and_are_not_zero_padded():
    # All keys oppose the query: a zero-padded candidate (score 0) would win at the border.
    query, keys = torch.full((1, 1, 4, 4), 10.0), torch.full((1, 2, 1, 4, 4), -10.0)
    read, weights = local_window_read(query, keys, None, 3)
    torch.testing.assert_close(read, keys[:, 0])
    inside = allowed_candidates(keys, 3, None)
    assert (weights[~inside] == 0).all() and (weights[inside] > 0.05).all()
    assert weights[0, :, 0, 0].count_nonzero() == 2 * 4


def test_weights_sum_to_one_everywhere():
    query, keys = features()
    torch.testing.assert_close(
        local_window_read(query * 50, keys, None, 5).weights.sum(1), torch.ones(2, 5, 6, dtype=torch.float64)
    )


def test_nothing_valid_reads_zero_with_zero_gradient():
    query, keys = (x.requires_grad_() for x in features())
    read, weights = local_window_read(query, keys, None, 3, torch.zeros(2, 3, dtype=torch.bool))
    (read.sum() + weights.sum()).backward()
    for x in (read, weights, query.grad, keys.grad):
        assert (x == 0).all()


def test_nan_in_the_features_is_not_hidden():
    query, keys = features()
    keys[0, 1, 0, 2, 3] = torch.nan
    read = local_window_read(query, keys, None, 3).read
    assert read[0, :, 1:4, 2:5].isnan().all()
    assert not read[1].isnan().any()
    assert not read[0, :, :, 0].isnan().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    query, keys = (x.to(dtype).requires_grad_() for x in features(c=32, dtype=torch.float32))
    read, weights = local_window_read(query * 0.2, keys, None, 3)
    read.sum().backward()
    assert read.dtype == keys.grad.dtype == query.grad.dtype == dtype
    expected = memory_oracle.pixwise((query * 0.2).float(), keys.float(), keys.float(), 3)
    assert (read - expected[0]).abs().max() < 8 * torch.finfo(dtype).eps
    assert (weights - expected[1]).abs().max() < 8 * torch.finfo(dtype).eps


def test_a_second_derivative_is_refused_not_wrong():
    query, keys = (x.requires_grad_() for x in features())
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(local_window_read(query, keys, None, 3).read.sum(), query, create_graph=True)
