"""Numbers that are none, in half precision, and the same again."""

import pytest
import torch
from back_ends import DEVICES, compiled
from deform_conv_cases import NAMES, assert_close, make, oracle, run, twin

from vsr.ops import deform_conv2d


@pytest.mark.parametrize("op", [deform_conv2d, twin])
@pytest.mark.parametrize("groups", [{}, {"groups": 2}, {"groups": 4, "co": 20}, {"groups": 16, "g": 1}])
def test_not_a_number_spreads_only_to_what_reads_it(op, groups):
    tensors, geometry = make(h=12, w=12, **groups)
    with torch.no_grad():
        tensors[0][0, 3, 5, 6] = float("nan")
        expected = oracle(*tensors[:4], mask=tensors[4], **geometry)
        output = op(*tensors[:4], mask=tensors[4], **geometry)
    assert 0 < expected.isnan().sum() < expected.numel()
    assert torch.equal(output.isnan(), expected.isnan())
    assert torch.isfinite(output[1]).all()


@pytest.mark.parametrize("op", [deform_conv2d, twin])
def test_offsets_that_are_no_numbers_or_far_away_do_not_crash(op):
    (input, offset, weight, bias, mask), geometry = make(n=1, h=6, w=6)
    with torch.no_grad():
        offset[0, 0, 0, 0] = float("nan")
        offset[0, 1, 0, 1] = float("inf")
        offset[0, 2, 0, 2] = -1e30
    output, *gradients = run(op, (input, offset, weight, bias, mask), geometry)
    assert output[0, :, 0, 0].isnan().all()
    assert torch.isfinite(output.flatten(2)[:, :, 1:]).all()
    assert torch.isfinite(gradients[0]).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("offset_dtype", [torch.float32, None])
def test_half_precision_features_keep_exact_coordinates(dtype, offset_dtype, device):
    tensors, geometry = make(c=64, co=64, g=8, std=6.0, device=device)
    rounded = [x.detach().to(dtype) for x in tensors]
    if offset_dtype is not None:
        rounded[1], rounded[4] = tensors[1].detach(), tensors[4].detach()
    grad_output = torch.randn(2, 64, 9, 11).to(dtype)
    got = run(deform_conv2d, rounded, geometry, grad_output)
    expected = run(twin, [x.float() for x in rounded], geometry, grad_output)
    assert [x.dtype for x in got[1:]] == [x.dtype for x in rounded]
    for name, a, b in zip(NAMES, got, expected, strict=True):
        error = (a.float() - b).abs().max() / b.abs().max()
        assert error < (2e-2 if dtype == torch.bfloat16 else 3e-3), f"{name}: {error:.1e}"


@pytest.mark.parametrize("device", DEVICES)
def test_autocast_leaves_offsets_alone(device):
    tensors, geometry = make(std=6.0, device=device)
    exact = run(deform_conv2d, tensors, geometry)
    with torch.autocast(device, torch.bfloat16):
        got = run(deform_conv2d, tensors, geometry)
        input, offset, weight, bias, mask = tensors
        direct = torch.ops.vsr.deform_conv2d(input, offset, weight, bias, mask, [1, 1], [1, 1], [1, 1])
        doubled = deform_conv2d(*(x.double() for x in tensors[:4]), mask=mask.double(), **geometry)
    assert got[0].dtype == direct.dtype == torch.bfloat16 and doubled.dtype == torch.float64
    assert torch.equal(got[0], direct)
    assert all(x.dtype == torch.float32 for x in got[1:])
    assert (got[0].float() - exact[0]).abs().max() < 2e-2 * exact[0].abs().max()


@pytest.mark.parametrize("device", DEVICES)
def test_deterministic_mode_repeats_bit_for_bit(device):
    tensors, geometry = make(c=64, co=64, g=8, h=24, w=24, std=8.0, device=device)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (run(deform_conv2d, tensors, geometry) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert_close(first, run(oracle, tensors, geometry))


@compiled
@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_cpu_kernels_repeat_for_a_given_number_of_threads(count):
    """The output never depends on the number: our kernels call no BLAS. Gradients are summed in as many parts as keep
    all threads busy, so that another number may round otherwise.
    """
    tensors, geometry = make(n=1, c=64, co=64, g=8, h=24, w=24)
    one_thread, threads = run(deform_conv2d, tensors, geometry), torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        first, second = (run(deform_conv2d, tensors, geometry) for _ in range(2))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(first[0], one_thread[0])
    assert_close(first, one_thread)
