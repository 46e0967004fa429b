"""What PyTorch and its users see of the local window read: opcheck, torch.compile, messages."""

import pytest
import torch
from back_ends import compiled, insist_on
from test_local_window import leaves_of, make

from vsr.ops import backend, local_window_read


@compiled
@pytest.mark.parametrize("case", ["plain", "channels_last", "values", "valid"])
def test_opcheck(case):
    query, keys, values, grad_read = make(b=2, t=2, c=4, e=3 if case == "values" else None, h=3, w=4)
    if case == "channels_last":
        query = query.contiguous(memory_format=torch.channels_last)
        keys = keys.movedim(2, -1).contiguous().movedim(-1, 2)
    valid = torch.tensor([[True, False], [False, False]]) if case == "valid" else None
    leaves = leaves_of(query, keys, values)
    torch.library.opcheck(torch.ops.vsr.local_window_read.default, (*leaves, valid, 3))
    read, log_sum = torch.ops.vsr.local_window_read(query, keys, values, valid, 3)
    delta = (read * grad_read).sum(1)
    for needed in ([True] * 3, [False, True, False], [True, False, True]):
        arguments = (grad_read, query, keys, values, valid, log_sum, delta, 3, needed)
        torch.library.opcheck(torch.ops.vsr.local_window_read_backward.default, arguments)


@compiled
@pytest.mark.parametrize("return_weights", [False, True])
def test_compiles_into_one_graph(return_weights):
    window = 1 if return_weights else 3  # the loop over shifts is unrolled, which takes minutes for larger ones
    sizes = [{}] if return_weights else [{}, {"h": 7, "w": 4, "b": 1}]

    def read(query, keys, valid):
        found = local_window_read(query * 2, keys, None, window, valid, return_weights)
        return sum(x.square().sum() for x in found if x is not None)

    graph = torch.compile(read, fullgraph=True, backend="aot_eager")
    for size in sizes:
        gradients = []
        for function in (read, graph):
            query, keys, _, _ = leaves_of(*make(**size))
            function(query, keys, torch.tensor([[True, False, True]]).expand(keys.shape[:2])).backward()
            gradients.append((query.grad, keys.grad))
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b)


def test_the_gradient_of_log_sum_is_the_softmax():
    if backend.library("cpu").problem:
        pytest.skip("no compiled CPU kernels")
    query, keys, _, _ = leaves_of(*make(dtype=torch.float64))
    _, log_sum = torch.ops.vsr.local_window_read(query, keys, None, None, 3)
    weights = local_window_read(query, keys, None, 3, return_weights=True).weights
    torch.testing.assert_close(weights.sum(1), torch.ones_like(log_sum))
    # log_sum grows by what every score grows by, and scores are linear in the query
    (gradient,) = torch.autograd.grad(log_sum.sum(), query)
    torch.testing.assert_close(gradient, local_window_read(query, keys, None, 3).read)


WRONG = {
    "query is a list": {"query": [1]},
    "query has shape .*expected .b, c, h, w.": {"query": torch.zeros(8, 5, 6)},
    "query has dtype torch.int64": {"query": torch.zeros(2, 8, 5, 6, dtype=torch.int64)},
    "keys is a int": {"keys": 3},
    r"keys has shape \(2, 8, 5, 6\)": {"keys": torch.zeros(2, 8, 5, 6)},
    r"keys has shape \(2, 0, 8, 5, 6\); expected \(2, at least 1, 8, 5, 6\)": {"keys": torch.zeros(2, 0, 8, 5, 6)},
    r"keys has shape \(2, 3, 7, 5, 6\)": {"keys": torch.zeros(2, 3, 7, 5, 6)},
    r"keys has shape \(2, 3, 8, 5, 5\)": {"keys": torch.zeros(2, 3, 8, 5, 5)},
    "keys is on meta": {"keys": torch.zeros(2, 3, 8, 5, 6, device="meta")},
    r"values has shape \(2, 2, 4, 5, 6\); expected \(2, 3, e, 5, 6\)": {"values": torch.zeros(2, 2, 4, 5, 6)},
    r"values has shape \(2, 3, 4, 5\)": {"values": torch.zeros(2, 3, 4, 5)},
    "values has dtype torch.bool": {"values": torch.zeros(2, 3, 4, 5, 6, dtype=torch.bool)},
    "window is 4": {"window": 4},
    "window is -1": {"window": -1},
    "window is 3.0": {"window": 3.0},
    r"valid is torch.float32 \(2, 3\); expected torch.bool": {"valid": torch.ones(2, 3)},
    r"valid is torch.bool \(2, 2\)": {"valid": torch.ones(2, 2, dtype=torch.bool)},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_named(message):
    query, keys, _, _ = make()
    arguments = {"query": query, "keys": keys, "values": None, "window": 3, "valid": None}
    with pytest.raises(ValueError, match=message):
        local_window_read(**{**arguments, **WRONG[message]})


@compiled
def test_a_direct_call_with_wrong_sizes_is_refused():
    query, keys, values, grad_read = make(e=4)
    read, log_sum = torch.ops.vsr.local_window_read(query, keys, values, None, 3)
    for wrong in (
        (query[:, :7], keys, values, None, 3),
        (query, keys[..., :5], values, None, 3),
        (query, keys, values[:, :2], None, 3),
        (query, keys, values.double(), None, 3),
        (query, keys, values, torch.ones(2, 2, dtype=torch.bool), 3),
        (query, keys, values, torch.ones(2, 3), 3),
        (query, keys, values, None, 2),
    ):
        with pytest.raises(RuntimeError):
            torch.ops.vsr.local_window_read(*wrong)
    for gradient, sums in ((grad_read[:, :2], log_sum), (grad_read, log_sum[:1]), (grad_read, log_sum.double())):
        with pytest.raises(RuntimeError):
            torch.ops.vsr.local_window_read_backward(
                gradient, query, keys, values, None, sums, log_sum, 3, [True, True, True]
            )
    assert read.shape == grad_read.shape


def test_meta_tensors_have_shapes_only():
    query, keys, values, _ = (x.to("meta") for x in make(e=4))
    read = local_window_read(query, keys, values, 3).read
    assert read.is_meta and read.shape == (2, 4, 5, 6)


def test_a_back_end_that_cannot_run_here_is_named(monkeypatch):
    query, keys, _, _ = make()
    insist_on("triton", monkeypatch)
    with pytest.raises(ValueError, match="VSR_OPS=triton, but Triton kernels run on CUDA, not on cpu"):
        local_window_read(query, keys, None, 3)
    monkeypatch.undo()
    backend.choices.clear()


def test_compiled_kernels_are_for_the_cpu_only():
    assert "no compiled kernels for cuda" in backend.unavailable("compiled", "local_window_read", "cuda")
