"""The warp: its numbers on each back end, exactness, determinism, and what PyTorch and users see of it."""

import pytest
import torch
from back_ends import DEVICES, compiled, insist_on
from flow_warp_cases import SIZES, by_grid_sample, make

from vsr.ops import backend, flow_warp
from vsr.ops.tensors import layout_of

PADDINGS = ["zeros", "border"]


@pytest.fixture(params=["reference", pytest.param("compiled", marks=compiled)])
def back_end(request, monkeypatch):
    insist_on(request.param, monkeypatch)
    yield request.param
    monkeypatch.undo()
    backend.choices.clear()


def with_gradients(function, x, flow, grad, *options):
    x, flow = x.clone().requires_grad_(), flow.clone().requires_grad_()
    output = function(x, flow, *options)
    return [output.detach(), *torch.autograd.grad(output, (x, flow), grad)]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("case", [case for case in SIZES if case != "empty batch"])
def test_equal_to_grid_sample(back_end, case, padding):
    x, flow, grad = make(**SIZES[case])
    wanted = with_gradients(by_grid_sample, x, flow, grad, padding)
    if 1 in x.shape[-2:]:  # grid_sample cannot tell where in a row of one pixel a coordinate is
        inside = [flow[:, 0] * (x.shape[-1] > 1), flow[:, 1] * (x.shape[-2] > 1)]
        flow = torch.stack(inside, 1)
        wanted = with_gradients(by_grid_sample, x, flow, grad, padding)[:2]
    ours = with_gradients(flow_warp, x, flow, grad, padding)[: len(wanted)]
    torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_single_and_half_precision(back_end, dtype, padding):
    x, flow, grad = make(c=20, dtype=dtype)
    wanted = with_gradients(flow_warp, x.double(), flow.double(), grad.double(), padding)
    ours = with_gradients(flow_warp, x, flow, grad, padding)
    assert [value.dtype for value in ours] == [dtype, dtype, flow.dtype]
    tolerance = 2e-5 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps
    torch.testing.assert_close([value.double() for value in ours], wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_flow_of_whole_pixels_copies_exactly(back_end, dtype, padding):
    """grid_sample is off by 2e-6 at zero flow."""
    x, flow, _ = make(c=5, h=40, w=300, dtype=dtype)
    assert torch.equal(flow_warp(x, torch.zeros_like(flow), padding), x)
    moved = flow_warp(x, torch.tensor([2.0, -1.0], dtype=flow.dtype).view(1, 2, 1, 1).expand_as(flow), padding)
    assert torch.equal(moved[:, :, 1:, :-2], x[:, :, :-1, 2:])


def test_half_precision_features_have_float32_coordinates(back_end):
    """In bfloat16, positions beyond 256 and flows would be rounded."""
    x = torch.arange(1000.0).view(1, 1, 1, -1).repeat(1, 1, 2, 1).bfloat16() / 1024
    flow = torch.full((1, 2, 2, 1000), 0.125)
    flow[:, 1] = 0
    wanted = by_grid_sample(x.float(), flow, "border")
    assert (flow_warp(x, flow, "border").float() - wanted).abs().max() <= wanted.max() / 256


def test_channels_last_features_stay_so(back_end):
    x, flow, grad = make(c=19)
    wanted = with_gradients(flow_warp, x, flow, grad)
    for layout in (torch.channels_last, torch.contiguous_format):
        for of_grad in (torch.channels_last, torch.contiguous_format):
            given = x.contiguous(memory_format=layout)
            ours = with_gradients(flow_warp, given, flow, grad.contiguous(memory_format=of_grad))
            assert layout_of(ours[0]) == layout
            torch.testing.assert_close(ours, wanted)
    torch.testing.assert_close(
        flow_warp(x[:, 2:, :, 1:], flow[..., 1:]), flow_warp(x[:, 2:, :, 1:].clone(), flow[..., 1:])
    )


def test_a_flow_that_is_no_number_gives_none(back_end):
    x, flow, _ = make()
    flow[0, 0, 2, 3], flow[0, 1, 4, 5], flow[1, 0, 0, 0] = torch.nan, torch.nan, torch.inf
    bad = flow_warp(x, flow).isnan().any(1)
    assert bad[0, 2, 3] and bad[0, 4, 5] and bad.sum() == 2


@pytest.mark.parametrize("padding", PADDINGS)
def test_gradcheck(back_end, padding):
    x, flow, _ = make(n=1, c=2, h=4, w=5, reach=2.0)
    leaves = x.requires_grad_(), flow.requires_grad_()
    assert torch.autograd.gradcheck(lambda *leaves: flow_warp(*leaves, padding), leaves)


def test_where_the_border_stops_a_flow_it_has_no_gradient(back_end):
    x, flow, grad = make(reach=0.0)
    flow[:, 0] = 20
    assert (with_gradients(flow_warp, x, flow, grad, "border")[2][:, 0] == 0).all()


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_are_the_same_in_each_run_and_with_any_number_of_threads(device):
    x, flow, grad = (value.to(device) for value in make(c=40, h=30, w=50, dtype=torch.float32))
    first = with_gradients(flow_warp, x, flow, grad)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for a, b in zip(first, with_gradients(flow_warp, x, flow, grad), strict=True):
                assert torch.equal(a, b)
    finally:
        torch.set_num_threads(threads)


@compiled
@pytest.mark.parametrize("instructions", ["portable", "avx2"])
def test_each_instruction_set_computes_the_same(monkeypatch, instructions):
    values = make(c=21, dtype=torch.float32)
    expected = with_gradients(flow_warp, *values)
    monkeypatch.setenv("VSR_CPU_ISA", instructions)
    torch.testing.assert_close(with_gradients(flow_warp, *values), expected)


@compiled
@pytest.mark.parametrize("case", ["plain", "one pixel", "empty batch"])
def test_opcheck(case):
    x, flow, grad = make(**SIZES[case], dtype=torch.float32)
    torch.library.opcheck(torch.ops.vsr.flow_warp.default, (x.requires_grad_(), flow.requires_grad_(), False))
    for needed in ([True, True], [True, False], [False, True]):
        arguments = (grad, x.detach(), flow.detach(), True, needed)
        torch.library.opcheck(torch.ops.vsr.flow_warp_backward.default, arguments)


def test_compiles_into_one_graph(back_end):
    x, flow, grad = make(dtype=torch.float32)
    graph = torch.compile(lambda x, flow: flow_warp(x * 2, flow, "border"), fullgraph=True, backend="aot_eager")
    expected = with_gradients(lambda x, flow: flow_warp(x * 2, flow, "border"), x, flow, grad)
    torch.testing.assert_close(with_gradients(graph, x, flow, grad), expected)


WRONG = {
    r"x has shape \(2, 3, 7\); expected \(n, c, h, w\)": {"x": torch.zeros(2, 3, 7)},
    "x has dtype torch.int64": {"x": torch.zeros(2, 3, 7, 11, dtype=torch.int64)},
    r"flow has shape \(2, 7, 11, 2\); expected \(2, 2, 7, 11\), \(x, y\) for each": {"flow": torch.zeros(2, 7, 11, 2)},
    "flow is on meta": {"flow": torch.zeros(2, 2, 7, 11, device="meta")},
    "padding is 'reflection'; expected 'zeros' or 'border'": {"padding": "reflection"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_named(message):
    x, flow, _ = make()
    with pytest.raises(ValueError, match=message):
        flow_warp(**{"x": x, "flow": flow, **WRONG[message]})


@compiled
def test_a_direct_call_with_wrong_sizes_is_refused():
    x, flow, grad = make()
    for wrong in ((x[0], flow, False), (x, flow[:, :1], False), (x, flow[..., :5], False)):
        with pytest.raises(RuntimeError):
            torch.ops.vsr.flow_warp(*wrong)
    for wrong in ((grad[:, :2], x, flow, False, [True, True]), (grad.float(), x, flow, False, [True, True])):
        with pytest.raises(RuntimeError):
            torch.ops.vsr.flow_warp_backward(*wrong)


def test_meta_tensors_have_shapes_only():
    x, flow, _ = (value.to("meta") for value in make())
    assert flow_warp(x, flow).shape == x.shape
