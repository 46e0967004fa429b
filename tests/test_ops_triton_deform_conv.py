"""The deformable convolution in Triton without a GPU: numbers from Triton's interpreter, registers as for sm_90."""

import pytest
import torch
from triton_tools import interpreted, not_interpreted, spilled_bytes

from vsr.ops.deform_conv import reference as deform_conv_reference
from vsr.ops.tensors import layout_of

ONE = [1, 1]
CASES = {
    "integer coordinates and the -1 border": {"std": 0.0},
    "two images": {"n": 2, "g": 1},
    "std 20": {"std": 20.0, "h": 6, "w": 6},
    "3 groups of 4 channels": {"c": 12, "g": 3, "co": 5},
    "weight groups": {"c": 12, "g": 3, "co": 6, "groups": 3},
    "stride and dilation": {"stride": (2, 1), "dilation": (1, 2)},
    "no mask, no bias": {"g": 1, "optional": False},
    "empty batch": {"n": 0},
    "deterministic": {},
    "channels_last slices": {},
}


def make(n=1, c=16, h=4, w=5, co=16, g=2, groups=1, std=1.5, stride=(1, 1), dilation=(1, 1), optional=True):
    generator = torch.Generator().manual_seed(c + g)

    def normal(*size):
        return torch.randn(*size, generator=generator)

    ho, wo = (h - 1 - 2 * (dilation[0] - 1)) // stride[0] + 1, (w - 1 - 2 * (dilation[1] - 1)) // stride[1] + 1
    mask = torch.rand(n, 9 * g, ho, wo, generator=generator) if optional else None
    bias = normal(co) if optional else None
    tensors = [normal(n, c, h, w), normal(n, 18 * g, ho, wo) * std, normal(co, c // groups, 3, 3), bias, mask]
    return tensors, (list(stride), ONE, list(dilation)), normal(n, co, ho, wo)


def run_twin(tensors, geometry, grad_output):
    leaves = [None if x is None else x.detach().clone().requires_grad_() for x in tensors]
    output = deform_conv_reference.deform_conv2d(*leaves, *(tuple(pair) for pair in geometry))
    output.backward(grad_output)
    input, offset, weight, _, mask = leaves
    return [output.detach(), *(None if x is None else x.grad for x in (input, offset, weight, mask))]


def run_triton(tensors, geometry, grad_output, needed=(True,) * 4, deterministic=False):
    from vsr.ops.deform_conv import triton as triton_deform_conv

    input, offset, weight, _, mask = tensors
    output = triton_deform_conv.forward(*tensors, *geometry)
    needed = list(needed)
    gradients = triton_deform_conv.backward(grad_output, input, offset, weight, mask, *geometry, needed, deterministic)
    return [output, *gradients]


@interpreted
@pytest.mark.parametrize("case", CASES)
def test_equal_to_the_twin(case):
    tensors, geometry, grad_output = make(**CASES[case])
    expected = run_twin(tensors, geometry, grad_output)
    if case == "channels_last slices":
        input, offset, weight, bias, mask = (
            x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in tensors
        )
        offset, mask = torch.cat([offset, mask], 1).split([offset.shape[1], mask.shape[1]], 1)
        tensors = [input, offset, weight, bias, mask]
    got = run_triton(tensors, geometry, grad_output, deterministic=case == "deterministic")
    for name, a, b in zip(("output", "input", "offset", "weight", "mask"), got, expected, strict=True):
        if b is None:
            assert a.numel() == 0
            continue
        scale = b.abs().max().item() if b.numel() else 1.0
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * scale, msg=lambda text, name=name: f"{name}: {text}")
    if tensors[0].numel():
        assert layout_of(got[0]) == layout_of(got[1]) == layout_of(tensors[0])


@interpreted
def test_fixed_point_repeats_bit_for_bit_and_skips_what_is_not_needed():
    tensors, geometry, grad_output = make(std=8.0)
    first, second = (run_triton(tensors, geometry, grad_output, deterministic=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    _, *gradients = run_triton(tensors, geometry, grad_output, needed=(False, True, False, False))
    assert [x.numel() > 0 for x in gradients] == [False, True, False, False]
    with_nan = grad_output.clone()
    with_nan[0, 0, 0, 0] = float("nan")
    assert run_triton(tensors, geometry, with_nan, deterministic=True)[1].isnan().all()


@not_interpreted
@pytest.mark.parametrize(
    ("channels", "dtype"),
    [
        (64, torch.bfloat16),
        pytest.param(64, torch.float32, marks=pytest.mark.slow),
        pytest.param(128, torch.bfloat16, marks=pytest.mark.slow),
        pytest.param(128, torch.float32, marks=pytest.mark.slow),
    ],
)
def test_nothing_spills_on_sm_90(channels, dtype):
    from vsr.ops.deform_conv import triton as host
    from vsr.ops.deform_conv import triton_kernels as kernels

    sizes = host.sizes_of(
        torch.empty(1, channels, 1, 1, device="meta"),
        torch.empty(1, 144, 1, 1, device="meta"),
        torch.empty(channels, channels, 3, 3, device="meta"),
    )
    mask = torch.empty(0)
    constants = sizes.constants(torch.empty(0, dtype=dtype), mask)
    feature = "*fp32" if dtype == torch.float32 else "*bf16"
    read = {"x": feature, "offset": "*fp32", "mask": "*fp32"}
    found = [
        spilled_bytes(
            kernels.forward_kernel,
            {**read, "weight": feature, "bias": feature, "y": feature},
            {**constants, "HAS_BIAS": True},
        ),
        spilled_bytes(
            kernels.data_gradients_kernel,
            {**read, "grad_y": feature, "weight": feature, "scale": "*fp64", "grad_x": "*fp32", "grad_offset": "*fp32",
             "grad_mask": "*fp32"},
            {**constants, "NEED_X": True, "NEED_OFFSET": True, "NEED_MASK": True, "FIXED": False},
        ),
        spilled_bytes(
            kernels.weight_gradient_kernel, {**read, "grad_y": feature, "parts": "*fp32"}, {**constants, "SPLITS": 16}
        ),
    ]  # fmt: skip
    assert [spilled for spilled, _ in found] == [0, 0, 0]
    assert all(shared <= 227 * 1024 for _, shared in found)
