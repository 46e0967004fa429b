"""The local window read in Triton without a GPU: numbers from Triton's interpreter, registers as for sm_90."""

import pytest
import torch
from test_local_window import VALID, assert_equal_up_to, expected, make
from triton_tools import interpreted, not_interpreted, spilled_bytes

from vsr.ops.tensors import layout_of

SMALL = {"b": 1, "t": 2, "c": 5, "h": 4, "w": 7}
CASES = {
    "other values": ({**SMALL, "e": 3}, 3, None),
    "keys read": (SMALL, 3, None),
    "more values than keys": ({**SMALL, "e": 20}, 1, None),
    "several tiles": ({**SMALL, "h": 9, "w": 18, "c": 64}, 3, None),
    "valid": ({**SMALL, "b": 2, "t": 3}, 3, VALID),
    "valid, other values": ({**SMALL, "b": 2, "t": 3, "e": 4}, 3, VALID),
    "nothing valid": (SMALL, 3, torch.zeros(1, 2, dtype=torch.bool)),
    "window larger than the map": ({**SMALL, "h": 2, "w": 3}, 7, None),
    "bfloat16": ({**SMALL, "dtype": torch.bfloat16}, 3, None),
    "float16, other values": ({**SMALL, "dtype": torch.float16, "e": 4}, 3, None),
    "channels_last": (SMALL, 3, None),
    "empty batch": ({**SMALL, "b": 0}, 3, None),
}


def run_triton(query, keys, values, grad_read, window, valid=None, needed=(True, True, True)):
    from vsr.ops.local_window import triton as triton_local_window

    read, log_sum = triton_local_window.forward(query, keys, values, valid, window)
    delta = (grad_read.float() * read).sum(1)
    arguments = (grad_read, query, keys, values, valid, log_sum, delta, window, list(needed))
    return [read, *triton_local_window.backward(*arguments)]


@interpreted
@pytest.mark.parametrize("case", CASES)
def test_equal_to_the_unfolded_read(case):
    sizes, window, valid = CASES[case]
    query, keys, values, grad_read = make(**sizes)
    wanted = expected(query, keys, values, grad_read, window, valid)
    if case == "channels_last":
        query = query.contiguous(memory_format=torch.channels_last)
        keys = keys.movedim(2, -1).contiguous().movedim(-1, 2)
    read, *gradients = run_triton(query, keys, values, grad_read, window, valid)
    if values is None:
        assert gradients.pop().numel() == 0
        gradients.append(None)
    tolerance = 1e-5 if query.dtype == torch.float32 else 4 * torch.finfo(query.dtype).eps
    assert_equal_up_to(tolerance, [read, wanted[1], *gradients], wanted)
    assert layout_of(read) == layout_of(query)
    for x, gradient in zip((query, keys, values), gradients, strict=True):
        assert x is None or gradient.stride() == torch.empty_like(x).stride()


@interpreted
def test_not_a_number_reaches_only_what_reads_it():
    query, keys, values, grad_read = make(b=1, t=2, c=4, e=3, h=5, w=9)
    keys[0, 1, 0, 2, 3] = torch.nan
    values[0, 0] = torch.nan
    valid = torch.tensor([[False, True]])
    read, *gradients = run_triton(query, keys, values, grad_read, 3, valid)
    bad = torch.zeros(5, 9, dtype=torch.bool)
    bad[1:4, 2:5] = True
    assert torch.equal(read[0].isnan().any(0), bad)
    for gradient in gradients:
        assert not gradient[..., 7:].isnan().any()
    for gradient in gradients[1:]:
        assert (gradient[0, 0] == 0).all()


@interpreted
def test_what_nobody_needs_is_skipped():
    tensors = make(b=1, t=2, c=4, e=3, h=3, w=4)
    everything = run_triton(*tensors, 3)[1:]
    for needed in ((True, False, False), (False, True, False), (False, False, True)):
        for wanted, gradient, whole in zip(needed, run_triton(*tensors, 3, needed=needed)[1:], everything, strict=True):
            assert torch.equal(gradient, whole) if wanted else gradient.numel() == 0


@not_interpreted
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float32, marks=pytest.mark.slow)])
@pytest.mark.parametrize("channels", [64, pytest.param(128, marks=pytest.mark.slow)])
@pytest.mark.parametrize("own_values", [False, True])
def test_nothing_spills_on_sm_90(own_values, channels, dtype):
    from vsr.ops.local_window import triton as host
    from vsr.ops.local_window import triton_kernels as kernels

    keys = torch.empty(1, 5, channels, 1, 1, dtype=dtype)
    feature = "*fp32" if dtype == torch.float32 else "*bf16"
    pointers = dict.fromkeys(("query", "keys", "values", "read"), feature) | {"valid": "*i8", "log_sum": "*fp32"}
    gradients = dict.fromkeys(("grad_read", "grad_query", "grad_keys", "grad_values"), feature) | {"delta": "*fp32"}
    forward, backward = (
        host.constants(keys, keys if own_values else None, torch.empty(1, 5), 5, backward=which)
        for which in (False, True)
    )
    found = [
        spilled_bytes(kernels.read_kernel, pointers, forward),
        spilled_bytes(kernels.query_gradient_kernel, pointers | gradients, backward),
        spilled_bytes(
            kernels.frame_gradients_kernel,
            pointers | gradients,
            {**backward, "NEED_KEYS": True, "NEED_VALUES": own_values},
        ),
    ]
    assert [spilled for spilled, _ in found] == [0, 0, 0]
