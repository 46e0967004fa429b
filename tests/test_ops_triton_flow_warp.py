"""The warp in Triton without a GPU: numbers from Triton's interpreter, registers as for sm_90."""

import pytest
import torch
from flow_warp_cases import SIZES, make
from triton_tools import interpreted, not_interpreted, spilled_bytes

from vsr.ops.flow_warp import reference
from vsr.ops.tensors import layout_of


def run_triton(x, flow, grad, border, needed=(True, True)):
    from vsr.ops.flow_warp import triton as host

    return [host.forward(x, flow, border), *host.backward(grad, x, flow, border, list(needed))]


@interpreted
@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("case", [*SIZES, "bfloat16", "channels_last", "several blocks of channels"])
def test_equal_to_the_reference(case, border):
    sizes = SIZES.get(case, {"c": 70} if case.startswith("several") else {})
    x, flow, grad = make(**sizes, dtype=torch.bfloat16 if case == "bfloat16" else torch.float32)
    if case == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    leaves = x.double().requires_grad_(), flow.double().requires_grad_()
    output = reference.flow_warp(*leaves, border)
    wanted = [output.detach(), *torch.autograd.grad(output, leaves, grad.double())]
    ours = run_triton(x, flow, grad, border)
    tolerance = 2e-5 if x.dtype == torch.float32 else 4 * torch.finfo(x.dtype).eps
    torch.testing.assert_close([value.double() for value in ours], wanted, rtol=tolerance, atol=tolerance)
    assert [layout_of(value) for value in ours[:2]] == [layout_of(x)] * 2


@interpreted
def test_zero_flow_copies_exactly():
    x, flow, grad = make(h=9, w=20, dtype=torch.float32)
    output, grad_x, _ = run_triton(x, torch.zeros_like(flow), grad, False)
    assert torch.equal(output, x) and torch.equal(grad_x, grad)


@interpreted
def test_a_flow_that_is_no_number_gives_none():
    x, flow, grad = make(dtype=torch.float32)
    flow[0, 0, 2, 3] = torch.nan
    for border in (False, True):
        bad = run_triton(x, flow, grad, border, (False, True))[0].isnan().any(1)
        assert bad[0, 2, 3]


@interpreted
def test_what_nobody_needs_is_skipped():
    tensors = make(dtype=torch.float32)
    _, *everything = run_triton(*tensors, False)
    for needed in ((True, False), (False, True)):
        for wanted, value, whole in zip(needed, run_triton(*tensors, False, needed)[1:], everything, strict=True):
            assert torch.equal(value, whole) if wanted else value.numel() == 0


@not_interpreted
@pytest.mark.parametrize("channels", [3, 64])
def test_nothing_spills_on_sm_90(channels):
    from vsr.ops.flow_warp import triton as host
    from vsr.ops.flow_warp import triton_kernels as kernels

    known = host.constants(torch.empty(1, channels, 1, 1), False)
    pointers = dict.fromkeys(("x", "flow", "output", "grad", "grad_flow"), "*fp32")
    pointers |= {"scale": "*fp64", "grad_x": "*i64"}
    needed = {"NEED_X": True, "NEED_FLOW": True}
    assert spilled_bytes(kernels.warp_kernel, pointers, known)[0] == 0
    assert spilled_bytes(kernels.gradients_kernel, pointers, {**known, **needed})[0] == 0
