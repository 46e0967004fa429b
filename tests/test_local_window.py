"""The local window read against the unfolded one in float64, on every back end that runs here."""

import itertools

import memory_oracle
import pytest
import torch
from back_ends import compiled, gpu, insist_on
from torch.autograd import gradcheck, gradgradcheck

from vsr.ops import backend, local_window_read
from vsr.ops.local_window.shifts import allowed_candidates, masked_softmax, window_scores, window_sum

BACK_ENDS = [
    pytest.param(("compiled", "cpu"), marks=compiled, id="compiled"),
    pytest.param(("reference", "cpu"), id="reference"),
    pytest.param(("triton", "cuda"), marks=gpu, id="triton"),
]
VALID = torch.tensor([[True, False, True], [False, True, False]])
NAMES = ("read", "weights", "query", "keys", "values")


@pytest.fixture(params=BACK_ENDS)
def device(request, monkeypatch):
    """Insists on a back end and gives the device it runs on."""
    name, device = request.param
    insist_on(name, monkeypatch)
    yield device
    monkeypatch.undo()
    backend.choices.clear()


def make(b=2, t=3, c=8, e=None, h=5, w=6, dtype=torch.float32, device="cpu", scale=1.0):
    """Query, keys, values (None when e is) and the read's gradient."""
    random = torch.Generator().manual_seed(b + 10 * t + 100 * c + 1000 * h + w)

    def normal(*size):
        return torch.randn(*size, generator=random, dtype=torch.float64).to(device, dtype)

    query, keys = normal(b, c, h, w) * (scale / c**0.5), normal(b, t, c, h, w)
    return query, keys, None if e is None else normal(b, t, e, h, w), normal(b, c if e is None else e, h, w)


def leaves_of(*tensors):
    return [None if x is None else x.detach().clone().requires_grad_() for x in tensors]


def run(query, keys, values, grad_read, window, valid=None):
    """Read, weights, and the gradients of what was given, by the op."""
    valid = None if valid is None else valid.to(query.device)
    leaves = [None if x is None else x.detach().requires_grad_() for x in (query, keys, values)]
    read, weights = local_window_read(*leaves, window, valid, return_weights=True)
    read.backward(grad_read)
    return [read.detach(), weights.detach(), *(None if x is None else x.grad for x in leaves)]


def expected(query, keys, values, grad_read, window, valid=None):
    """The same, unfolded in float64."""
    leaves = leaves_of(*(None if x is None else x.cpu().double() for x in (query, keys, values)))
    if query.shape[0] == 0:
        return [
            torch.zeros_like(x) for x in (grad_read, query.new_empty(0, keys.shape[1] * window**2, *query.shape[2:]))
        ] + [None if x is None else torch.zeros_like(x) for x in leaves]
    q, k, v = leaves
    read, weights = memory_oracle.pixwise(q, k, k if v is None else v, window, valid)
    read.backward(grad_read.cpu().double())
    return [read.detach(), weights.detach(), *(None if x is None else x.grad for x in leaves)]


def assert_equal_up_to(tolerance, got, wanted):
    """Equal up to a part of the largest value."""
    for name, a, b in zip(NAMES, got, wanted, strict=True):
        if a is None and b is None:
            continue
        assert a.shape == b.shape
        error = (a.cpu().double() - b.double()).abs().max().item() if b.numel() else 0.0
        assert error <= tolerance * max(1.0, b.abs().max().item() if b.numel() else 0.0), f"{name}: {error:.1e}"


CASES = {
    "one position": {"h": 1, "w": 1},
    "one frame": {"t": 1},
    "five frames": {"t": 5, "b": 1},
    "other values": {"e": 5},
    "more values than keys": {"c": 3, "e": 24},
    "one channel": {"c": 1},
    "13 channels": {"c": 13},
    "64 channels": {"c": 64, "h": 4},
    "a row": {"h": 1, "w": 70},
    "a column": {"h": 37, "w": 1},
    "just more than a block": {"b": 1, "t": 2, "h": 9, "w": 321, "c": 2},
    "empty batch": {"b": 0},
    "empty batch, other values": {"b": 0, "e": 5},
}


@pytest.mark.parametrize("use_valid", [False, True])
@pytest.mark.parametrize("window", [1, 3, 5, 7])
@pytest.mark.parametrize("case", CASES)
def test_read_weights_and_gradients_equal_the_unfolded_ones(device, case, window, use_valid):
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        if device == "cuda" and dtype == torch.float64:
            continue
        tensors = make(**CASES[case], dtype=dtype, device=device)
        b, t = tensors[1].shape[:2]
        valid = torch.rand(b, t, generator=torch.Generator().manual_seed(t)) > 0.4 if use_valid else None
        assert_equal_up_to(tolerance, run(*tensors, window, valid), expected(*tensors, window, valid))


@pytest.mark.parametrize("window", [9, 11, 13, 31])
def test_windows_larger_than_the_map(device, window):
    tensors = make(h=4, w=7, e=5, device=device)
    assert_equal_up_to(1e-5, run(*tensors, window, VALID), expected(*tensors, window, VALID))


@compiled
@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_instruction_set_gives_the_same(isa, dtype, monkeypatch):
    monkeypatch.setenv("VSR_CPU_ISA", isa)  # one that the machine lacks falls back to the next narrower
    for case, window in itertools.product(("other values", "13 channels", "a row"), (1, 3, 5, 7, 13)):
        tensors = make(**CASES[case], dtype=dtype)
        tolerance = 1e-5 if dtype == torch.float32 else 1e-12
        assert_equal_up_to(tolerance, run(*tensors, window), expected(*tensors, window))


@pytest.mark.parametrize("layout", ["channels_last", "slices", "transposed", "every second", "expanded"])
def test_any_strides_will_do(device, layout):
    query, keys, values, grad_read = make(b=1, c=6, e=10, h=6, w=9, device=device)
    wanted = expected(query, keys, values, grad_read, 3)
    if layout == "channels_last":
        query = query.contiguous(memory_format=torch.channels_last)
        keys, values = (x.movedim(2, -1).contiguous().movedim(-1, 2) for x in (keys, values))
    elif layout == "slices":
        both = torch.cat([keys, values], 2)
        keys, values, query = both[:, :, :6], both[:, :, 6:], torch.cat([query, query], 1)[:, 6:]
    elif layout == "transposed":
        query, keys, values = (x.mT.contiguous().mT for x in (query, keys, values))
    elif layout == "every second":
        query, keys, values = (torch.stack([x, x * torch.nan], -1).flatten(-2)[..., ::2] for x in (query, keys, values))
    else:
        grad_read = grad_read[:, :1, :1, :1].expand_as(grad_read)
        wanted = expected(query, keys, values, grad_read, 3)
    assert_equal_up_to(1e-5, run(query, keys, values, grad_read, 3), wanted)


def test_the_read_is_in_channels_last_when_the_query_is(device):
    query, keys, _, _ = make(device=device)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        read = local_window_read(query.contiguous(memory_format=memory_format), keys, None, 3).read
        assert read.is_contiguous(memory_format=memory_format)


def test_no_values_reads_the_keys(device):
    query, keys, _, _ = make(device=device)
    assert torch.equal(local_window_read(query, keys, None, 3).read, local_window_read(query, keys, keys, 3).read)


def test_weights_only_when_asked_for(device):
    query, keys, _, _ = make(device=device)
    assert local_window_read(query, keys, None, 3).weights is None
    assert local_window_read(query, keys, None, 3, return_weights=True).weights.shape == (2, 27, 5, 6)


@compiled
def test_little_is_kept_for_the_backward_pass():
    query, keys, values, _ = leaves_of(*make(e=4))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        local_window_read(query, keys, values, 5)
    read, log_sum = query.numel() // 2, query[:, 0].numel()
    assert sum(kept) == query.numel() + keys.numel() + values.numel() + read + log_sum


@pytest.mark.parametrize("own_values", [True, False])
@pytest.mark.parametrize("valid", [None, VALID[:1, :2]])
def test_gradients_of_reads_and_weights(own_values, valid, monkeypatch):
    query, keys, values, _ = leaves_of(*make(1, 2, 2, 3 if own_values else None, 3, 1, torch.float64))
    arguments = (query, keys, values) if own_values else (query, keys)
    for name in ("compiled", "reference"):
        if name == "compiled" and backend.library("cpu").problem:
            continue
        insist_on(name, monkeypatch)
        assert gradcheck(lambda q, k, v=None: tuple(local_window_read(q, k, v, 3, valid, True)), arguments)
        assert gradcheck(lambda q, k, v=None: local_window_read(q, k, v, 3, valid).read, arguments)
        assert gradcheck(lambda q, k, v=None: local_window_read(q, k, v, 3, valid, True).weights, arguments[:2])
    monkeypatch.undo()
    backend.choices.clear()


def test_gradients_equal_those_of_the_composition(device):
    query, keys, _, _ = leaves_of(*make(dtype=torch.float32, device=device))
    valid = VALID.to(device)
    weights = masked_softmax(window_scores(query, keys, 5), allowed_candidates(keys, 5, valid))
    composed = torch.autograd.grad(window_sum(weights, keys, 5).square().sum() + weights.square().sum(), (query, keys))
    read, weights = local_window_read(query, keys, None, 5, valid, return_weights=True)
    fused = torch.autograd.grad(read.square().sum() + weights.square().sum(), (query, keys))
    for ours, theirs in zip(fused, composed, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_only_needed_gradients_are_computed(device):
    tensors = make(e=4, device=device)
    wanted = expected(*tensors, 3)[2:]
    for needed in itertools.product((False, True), repeat=3):
        leaves = [x.detach().requires_grad_(need) for x, need in zip(tensors[:3], needed, strict=True)]
        read = local_window_read(*leaves, 3).read
        assert read.requires_grad == any(needed)
        if any(needed):
            read.backward(tensors[3])
        assert [x.grad is not None for x in leaves] == list(needed)
        for x, gradient in zip(leaves, wanted, strict=True):
            if x.grad is not None:
                torch.testing.assert_close(x.grad.cpu().double(), gradient, rtol=1e-4, atol=1e-5)


def test_candidates_outside_the_frame_have_no_weight_and_are_not_zero_padded(device):
    # All keys oppose the query: a zero-padded candidate (score 0) would win at the border.
    query, keys = torch.full((1, 1, 4, 4), 10.0, device=device), torch.full((1, 2, 1, 4, 4), -10.0, device=device)
    read, weights = local_window_read(query, keys, None, 3, return_weights=True)
    torch.testing.assert_close(read, keys[:, 0])
    inside = allowed_candidates(keys, 3, None)
    assert (weights[~inside] == 0).all() and (weights[inside] > 0.05).all()
    assert weights[0, :, 0, 0].count_nonzero() == 2 * 4


def test_weights_sum_to_one_everywhere(device):
    query, keys, _, _ = make(device=device, scale=50)
    weights = local_window_read(query, keys, None, 5, return_weights=True).weights
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 5, 6, device=device), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1e4, 1e15, 1e30])
def test_huge_scores_choose_one_candidate(device, scale):
    tensors = make(device=device, e=4, scale=scale)
    query, keys, values, _ = tensors
    read, weights, *gradients = run(*tensors, 3)
    best = window_scores(query, keys, 3).masked_fill(~allowed_candidates(keys, 3, None), -torch.inf).argmax(1)
    assert torch.equal(weights.argmax(1), best) and (weights.amax(1) > 0.999).all()
    one_hot = torch.nn.functional.one_hot(best, 27).movedim(-1, 1).float()
    torch.testing.assert_close(read, window_sum(one_hot, values, 3), rtol=1e-4, atol=1e-3)
    assert all(x.isfinite().all() for x in gradients)


def test_scores_far_below_zero_do_not_vanish_together(device):
    query, keys = torch.full((1, 1, 4, 4), 1e4, device=device), torch.full((1, 2, 1, 4, 4), -1e4, device=device)
    torch.testing.assert_close(local_window_read(query, keys, None, 3).read, keys[:, 0])


@pytest.mark.parametrize("own_values", [True, False])
def test_nothing_valid_reads_zero_with_zero_gradient(device, own_values):
    query, keys, values, _ = leaves_of(*make(device=device, e=4 if own_values else None))
    leaves = [x for x in (query, keys, values) if x is not None]
    nothing = torch.zeros(2, 3, dtype=torch.bool, device=device)
    read, weights = local_window_read(query, keys, values, 3, nothing, return_weights=True)
    (read.sum() + weights.sum()).backward()
    for x in (read, weights, *(x.grad for x in leaves)):
        assert (x == 0).all()


def test_nan_reaches_only_what_reads_it(device):
    for name in ("query", "keys", "values"):
        tensors = dict(zip(("query", "keys", "values"), make(e=4, h=9, w=9, device=device), strict=False))
        with torch.no_grad():
            tensors[name][(0, 1, 0, 4, 4) if name != "query" else (0, 0, 4, 4)] = torch.nan
        leaves = leaves_of(*tensors.values())
        read = local_window_read(*leaves, 3).read
        read.sum().backward()
        bad = torch.zeros(2, 9, 9, dtype=torch.bool)
        bad[0, 4:5, 4:5] = True
        if name != "query":
            bad[0, 3:6, 3:6] = True
        assert torch.equal(read.isnan().any(1).cpu(), bad), name
        for x in leaves:  # a position passes its NaN on to its candidates' gradients, not farther
            spread = x.grad.isnan().flatten(1, -3).any(1).cpu()
            assert not spread[1].any() and not spread[0, :2].any() and not spread[0, :, 7:].any(), name


def test_invalid_frames_may_hold_anything(device):
    query, keys, values, grad_read = make(e=4, device=device)
    wanted = run(query, keys, values, grad_read, 3, VALID)
    for x in (keys, values):
        x[~VALID.to(device)] = torch.nan
    for a, b in zip(run(query, keys, values, grad_read, 3, VALID), wanted, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("own_values", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(device, dtype, own_values):
    tensors = make(c=32, e=8 if own_values else None, dtype=dtype, device=device)
    got = run(*tensors, 3)
    assert [x.dtype for x in got if x is not None] == [dtype, torch.float32] + [dtype] * (3 if own_values else 2)
    assert_equal_up_to(4 * torch.finfo(dtype).eps, got, expected(*tensors, 3))


def test_different_types_are_promoted(device):
    query, keys, values, _ = make(e=4, device=device)
    exact = local_window_read(query.bfloat16().float(), keys, values.half().float(), 3).read
    read = local_window_read(query.bfloat16(), keys, values.half(), 3).read
    assert read.dtype == torch.float32 and torch.equal(read, exact)


def test_autocast_changes_nothing(device):
    tensors = make(e=4, device=device)
    exact = run(*tensors, 3)
    with torch.autocast(device, torch.bfloat16):
        for a, b in zip(run(*tensors, 3), exact, strict=True):
            assert a.dtype == torch.float32 and torch.equal(a, b)


def test_results_repeat_bit_for_bit(device):
    tensors = make(b=1, t=3, c=16, h=24, w=33, device=device)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (run(*tensors, 5) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(a is b or torch.equal(a, b) for a, b in zip(first, second, strict=True))


@compiled
def test_the_number_of_threads_changes_nothing():
    *leaves, grad_read = make(b=1, t=3, c=16, e=5, h=24, w=33)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 7):
            torch.set_num_threads(count)
            leaves = leaves_of(*leaves)
            read = local_window_read(*leaves, 5).read
            results.append((read, *torch.autograd.grad(read, leaves, grad_read)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_second_derivative_is_refused_not_wrong(device):
    query, keys, _, _ = leaves_of(*make(device=device))
    if backend.choose("local_window_read", device).backend == "reference":
        leaves = leaves_of(*make(1, 2, 2, 3, 3, 1, torch.float64)[:3])
        assert gradgradcheck(lambda *tensors: local_window_read(*tensors, 3).read, leaves)
        return
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(local_window_read(query, keys, None, 3).read.sum(), query, create_graph=True)
