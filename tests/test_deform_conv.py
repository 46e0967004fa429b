"""The deformable convolution against torchvision's, against its plain-PyTorch twin, and against finite differences."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from vsr.ops import ModulatedDeformConvPack, deform_conv2d, reference
from vsr.ops.backend import library

try:
    from torchvision.ops import deform_conv2d as torchvision_op
except (ImportError, RuntimeError):  # RuntimeError: it was built for another torch
    torchvision_op = None
needs_torchvision = pytest.mark.skipif(torchvision_op is None, reason="torchvision does not load")
compiled = pytest.mark.skipif(
    library("cpu").problem is not None, reason=f"no compiled CPU kernels: {library('cpu').problem}"
)
gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
DEVICES = [pytest.param("cpu"), pytest.param("cuda", marks=gpu)]
NAMES = ("output", "input", "offset", "weight", "bias", "mask")


def make(
    n=2,
    c=16,
    h=9,
    w=11,
    co=16,
    g=2,
    kernel=3,
    std=1.5,
    groups=1,
    stride=1,
    padding=1,
    dilation=1,
    dtype=torch.float32,
    device="cpu",
):
    """Random arguments: input, offset, weight, bias, mask; and stride, padding, dilation as keywords."""
    generator = torch.Generator().manual_seed(n * 1000 + c * 10 + h)
    ho = (h + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    wo = (w + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1

    def normal(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    tensors = [
        normal(n, c, h, w),
        normal(n, 2 * g * kernel**2, ho, wo) * std,
        normal(co, c // groups, kernel, kernel) / (c * kernel**2) ** 0.5,
        normal(co),
        torch.rand(n, g * kernel**2, ho, wo, generator=generator, dtype=torch.float64),
    ]
    tensors = [x.to(device, dtype).requires_grad_() for x in tensors]
    return tensors, {"stride": stride, "padding": padding, "dilation": dilation}


def run(op, tensors, geometry, grad_output=None):
    """Output and all gradients of an op with the public signature."""
    leaves = [
        None if x is None else x.detach().clone(memory_format=torch.preserve_format).requires_grad_() for x in tensors
    ]
    input, offset, weight, bias, mask = leaves
    output = op(input, offset, weight, bias, mask=mask, **geometry)
    if grad_output is None:
        grad_output = torch.sin(torch.arange(output.numel(), dtype=torch.float64)).view(output.shape)
    output.backward(grad_output.to(output.device, output.dtype))
    return [output.detach(), *(None if x is None else x.grad for x in leaves)]


def twin(input, offset, weight, bias=None, stride=1, padding=0, dilation=1, mask=None):
    pairs = ((value, value) if isinstance(value, int) else value for value in (stride, padding, dilation))
    return reference.deform_conv2d(input, offset, weight, bias, mask, *pairs)


oracle = torchvision_op or twin  # scripts/check_abi.sh may find no torchvision for its torch


def assert_close(got, expected, rtol=1e-4, names=NAMES):
    """Equal up to rtol of the largest value: sums of hundreds of terms cancel, so single values may be small."""
    for name, a, b in zip(names, got, expected, strict=True):
        if a is None and b is None:
            continue
        scale = b.abs().max().item() if b.numel() else 0.0
        torch.testing.assert_close(
            a, b, rtol=rtol, atol=rtol * scale * 0.1, msg=lambda text, name=name: f"{name}: {text}"
        )


CASES = {
    "integer coordinates and the -1 border": {"std": 0.0},
    "std 1.5": {"std": 1.5},
    "std 6": {"std": 6.0},
    "std 20": {"std": 20.0},
    "4 channels per group": {"c": 16, "g": 4},
    "8 channels per group": {"c": 64, "g": 8, "co": 64},
    "16 channels per group": {"c": 64, "g": 4},
    "3 channels per group": {"c": 6, "g": 2, "co": 5},
    "1 channel per group": {"c": 5, "g": 5, "co": 3},
    "13 channels per group": {"c": 26, "g": 2, "co": 17},
    "24 channels per group": {"c": 48, "g": 2, "co": 40},
    "128 channels": {"c": 128, "g": 8, "co": 128, "h": 6, "w": 5},
    "stride 2": {"stride": 2},
    "dilation 2": {"dilation": 2, "padding": 2},
    "no padding, kernel 1": {"kernel": 1, "padding": 0},
    "kernel 5": {"kernel": 5, "padding": 2, "c": 8},
    "groups 2": {"groups": 2},
    "groups 4, offset groups 2": {"groups": 4, "g": 2, "co": 20},
    "groups 2, offset groups 4, odd": {"groups": 2, "g": 4, "c": 12, "co": 6},
    "depthwise": {"groups": 16, "g": 1},
    "one pixel": {"h": 1, "w": 1},
    "a row": {"h": 1, "w": 70},
    "a column": {"h": 70, "w": 1},
    "batch 1": {"n": 1},
    "batch 33": {"n": 33, "h": 5, "w": 4, "c": 8},
    "more than one block of positions": {"n": 1, "h": 13, "w": 21},
}


@compiled
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_equal_torchvision(case, device):
    tensors, geometry = make(**CASES[case], device=device)
    assert_close(run(deform_conv2d, tensors, geometry), run(oracle, tensors, geometry))


@needs_torchvision
@pytest.mark.parametrize("case", CASES)
def test_the_twin_equals_torchvision(case):
    tensors, geometry = make(**CASES[case])
    assert_close(run(twin, tensors, geometry), run(oracle, tensors, geometry))


@compiled
@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_instruction_set_gives_the_same(isa, dtype, monkeypatch):
    monkeypatch.setenv("VSR_CPU_ISA", isa)  # one that the machine lacks falls back to the next narrower
    for case in ("std 1.5", "8 channels per group", "13 channels per group", "groups 4, offset groups 2"):
        tensors, geometry = make(**CASES[case], dtype=dtype)
        rtol = 1e-4 if dtype == torch.float32 else 1e-10
        assert_close(run(deform_conv2d, tensors, geometry), run(twin, tensors, geometry), rtol)


@pytest.mark.parametrize("op", [pytest.param(deform_conv2d, marks=compiled), twin])
@pytest.mark.parametrize("case", [{}, {"groups": 2}, {"stride": 2}, {"dilation": 2, "padding": 2}])
def test_gradcheck_in_float64(op, case):
    tensors, geometry = make(n=2, c=4, h=5, w=4, co=4, g=2, std=0.7, dtype=torch.float64, **case)
    assert torch.autograd.gradcheck(lambda *t: op(*t[:4], mask=t[4], **geometry), tensors, fast_mode=True)
    assert torch.autograd.gradcheck(lambda *t: op(*t, **geometry), tensors[:3], fast_mode=True)


@compiled
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("memory_format", "optional"),
    [(torch.contiguous_format, True), (torch.channels_last, True), (torch.channels_last, False)],
)
def test_opcheck(memory_format, optional, device):
    tensors, _ = make(n=1, h=4, w=5, device=device)
    tensors = [
        x.detach().contiguous(memory_format=memory_format).requires_grad_() if x.dim() == 4 else x for x in tensors
    ]
    input, offset, weight, bias, mask = tensors
    if not optional:
        bias, mask = None, None
    arguments = (input, offset, weight, bias, mask, [1, 1], [1, 1], [1, 1])
    torch.library.opcheck(torch.ops.vsr.deform_conv2d.default, arguments)
    plain = [None if x is None else x.detach() for x in (input, input, offset, weight, mask)]
    for needed in ([True] * 4, [False, True, False, True]):
        arguments = (*plain, [1, 1], [1, 1], [1, 1], needed, False)
        torch.library.opcheck(torch.ops.vsr.deform_conv2d_backward.default, arguments)


@pytest.mark.parametrize("op", [deform_conv2d, twin])
def test_zero_offset_is_a_convolution(op):
    for stride, padding, dilation, groups in itertools.product((1, 2), (0, 1), (1, 2), (1, 2)):
        tensors, geometry = make(std=0.0, stride=stride, padding=padding, dilation=dilation, groups=groups)
        input, offset, weight, bias, _ = tensors
        expected = F.conv2d(input, weight, bias, stride, padding, dilation, groups)
        torch.testing.assert_close(op(input, offset, weight, bias, **geometry), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", [deform_conv2d, twin])
def test_mask_and_bias_are_optional(op):
    tensors, geometry = make()
    for without in ([3], [4], [3, 4]):
        some = [None if i in without else x for i, x in enumerate(tensors)]
        assert_close(run(op, some, geometry), run(oracle, some, geometry))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["slices", "channels_last", "channels_last slices", "transposed", "every second"])
def test_inputs_need_not_be_contiguous(layout, device):
    (input, offset, weight, bias, mask), geometry = make(c=64, co=64, g=8, h=7, w=6, device=device)
    expected = run(oracle, (input, offset, weight, bias, mask), geometry)
    raw = torch.cat([offset, mask], 1).detach()  # the 216 channels that conv_offset gives
    if layout == "slices":
        input, offset, mask = torch.cat([input, input], 1)[:, 64:], raw[:, :144], raw[:, 144:]
    elif layout.startswith("channels_last"):
        raw = raw.contiguous(memory_format=torch.channels_last)
        offset, mask = (raw[:, :144], raw[:, 144:]) if "slices" in layout else (offset, mask)
        input = input.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
    elif layout == "transposed":
        input, offset, mask = (x.transpose(2, 3).contiguous().transpose(2, 3) for x in (input, offset, mask))
    else:
        input, offset, mask = (torch.stack([x, x * 0], -1)[..., 0] for x in (input, offset, mask))
        weight = torch.stack([weight, weight], 1)[:, 0]
    leaves = [x.detach().requires_grad_() for x in (input, offset, weight, bias, mask)]
    output = deform_conv2d(*leaves[:4], mask=leaves[4], **geometry)
    grad_output = torch.sin(torch.arange(output.numel(), dtype=torch.float64)).view(output.shape).to(output)
    output.backward(grad_output)
    assert_close([output.detach(), *(x.grad for x in leaves)], expected)


def test_the_output_follows_the_inputs_layout():
    tensors, geometry = make(c=16, co=8)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        input = tensors[0].detach().contiguous(memory_format=memory_format).requires_grad_()
        for op in (twin, deform_conv2d):
            output = op(input, *tensors[1:4], mask=tensors[4], **geometry)
            assert output.is_contiguous(memory_format=memory_format)
        (gradient,) = torch.autograd.grad(output.sum(), input)
        assert gradient.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("op", [deform_conv2d, twin])
@pytest.mark.parametrize("device", DEVICES)
def test_an_empty_batch_gives_empty_results(op, device):
    tensors, geometry = make(n=0, device=device)
    output, *gradients = run(op, tensors, geometry)
    assert output.shape == (0, 16, 9, 11)
    assert [x.shape for x in gradients] == [x.shape for x in tensors]
    assert not gradients[2].any() and not gradients[3].any()


@compiled
@pytest.mark.parametrize("device", DEVICES)
def test_only_needed_gradients_are_computed(device):
    tensors, geometry = make(device=device)
    for needed in itertools.product((False, True), repeat=5):
        leaves = [x.detach().requires_grad_(need) for x, need in zip(tensors, needed, strict=True)]
        output = deform_conv2d(*leaves[:4], mask=leaves[4], **geometry)
        if any(needed):
            output.sum().backward()
        assert [x.grad is not None for x in leaves] == list(needed)
    input, offset, weight, _, mask = (x.detach() for x in tensors)
    found = torch.ops.vsr.deform_conv2d_backward(
        torch.ones_like(output), input, offset, weight, mask, [1, 1], [1, 1], [1, 1], [False, True, False, False], False
    )
    assert [x.numel() > 0 for x in found] == [False, True, False, False]


@pytest.mark.parametrize("op", [deform_conv2d, twin])
def test_not_a_number_spreads_only_to_what_reads_it(op):
    tensors, geometry = make(h=12, w=12)
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
def test_the_number_of_threads_changes_nothing_but_rounding():
    tensors, geometry = make(n=1, c=64, co=64, g=8, h=24, w=24)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 7):
            torch.set_num_threads(count)
            results.append(run(deform_conv2d, tensors, geometry))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0][0], results[2][0])
    assert_close(results[1], results[0])
    assert_close(results[2], results[0])


@pytest.mark.parametrize("dynamic", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_compiles_into_one_graph(dynamic):
    pack = ModulatedDeformConvPack(16, 16, 3, padding=1, deformable_groups=2)
    torch.nn.init.normal_(pack.conv_offset.weight, std=0.05)
    graph = torch.compile(pack, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for size in ((2, 16, 9, 7), (1, 16, 12, 8)):
        x = torch.randn(size, requires_grad=True)
        gradients = []
        for module in (pack, graph):
            pack.zero_grad()
            x.grad = None
            module(x, x * 2).square().sum().backward()
            gradients.append([x.grad, *(p.grad for p in pack.parameters())])
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b)


WRONG = {
    "input is a list": {"input": [1, 2]},
    "input has shape": {"input": torch.zeros(16, 9, 11)},
    "input is 9x11; too small": {"padding": 0, "dilation": 6},
    "input has 15 channels": {"input": torch.zeros(2, 15, 9, 11), "weight": torch.zeros(16, 4, 3, 3)},
    "input has dtype torch.int64": {"input": torch.zeros(2, 16, 9, 11, dtype=torch.int64)},
    "offset has shape": {"offset": torch.zeros(2, 36, 8, 11)},
    "offset has 35 channels": {"offset": torch.zeros(2, 35, 9, 11)},
    "offset has 54 channels": {"offset": torch.zeros(2, 54, 9, 11)},
    "offset has dtype torch.float64": {"offset": torch.zeros(2, 36, 9, 11, dtype=torch.float64)},
    "offset is on meta": {"offset": torch.zeros(2, 36, 9, 11, device="meta")},
    "offset is a int": {"offset": 0},
    "weight has shape .* expected 4": {"weight": torch.zeros(16, 16, 9)},
    "weight has shape .* without a 0": {"weight": torch.zeros(16, 16, 0, 3)},
    "weight has 5 output channels": {"weight": torch.zeros(5, 8, 3, 3)},
    "weight has dtype torch.bfloat16": {"weight": torch.zeros(16, 16, 3, 3, dtype=torch.bfloat16)},
    "bias has shape": {"bias": torch.zeros(15)},
    "bias has dtype": {"bias": torch.zeros(16, dtype=torch.float16)},
    "mask has shape": {"mask": torch.zeros(2, 36, 9, 11)},
    "mask has shape .*expected 4 dimensions": {"mask": torch.zeros(2, 18, 9)},
    "stride is 0": {"stride": 0},
    "stride is .1, 2, 3.": {"stride": (1, 2, 3)},
    "padding is -1": {"padding": -1},
    "dilation is 1.5": {"dilation": 1.5},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_named(message):
    (input, offset, weight, bias, mask), geometry = make()
    arguments = {"input": input, "offset": offset, "weight": weight, "bias": bias, "mask": mask, **geometry}
    with pytest.raises(ValueError, match=message):
        deform_conv2d(**{**arguments, **WRONG[message]})


@compiled
def test_a_direct_call_with_wrong_sizes_is_refused():
    (input, offset, weight, bias, mask), _ = make()
    one = [1, 1]
    for wrong in (
        (input, offset[:, :, :8], weight, bias, mask),
        (input, offset, weight, bias[:3], mask),
        (input, offset, weight, bias, mask[:1]),
        (input[:, :15], offset, weight, bias, mask),
    ):
        with pytest.raises(RuntimeError):
            torch.ops.vsr.deform_conv2d(*(x.detach() for x in wrong), one, one, one)


def test_meta_tensors_have_shapes_only():
    tensors, geometry = make(stride=2)
    input, offset, weight, bias, mask = (x.detach().to("meta") for x in tensors)
    output = deform_conv2d(input, offset, weight, bias, mask=mask, **geometry)
    assert output.is_meta and output.shape == (2, 16, 5, 6)


def test_the_pack_starts_as_half_a_convolution():
    pack = ModulatedDeformConvPack(16, 8, 3, padding=1, deformable_groups=4)
    assert {name: tuple(p.shape) for name, p in pack.named_parameters()} == {
        "weight": (8, 16, 3, 3),
        "bias": (8,),
        "conv_offset.weight": (108, 16, 3, 3),
        "conv_offset.bias": (108,),
    }
    assert set(pack.state_dict()) == set(dict(pack.named_parameters()))
    assert not pack.bias.any() and not pack.conv_offset.weight.any() and not pack.conv_offset.bias.any()
    bound = 1 / (16 * 9) ** 0.5
    assert 0.9 * bound < pack.weight.abs().max() <= bound
    x = torch.randn(2, 16, 7, 5)
    torch.testing.assert_close(pack(x, x), F.conv2d(x, pack.weight * 0.5, pack.bias, padding=1), rtol=1e-4, atol=1e-5)


def test_the_pack_equals_the_published_formula():
    pack = ModulatedDeformConvPack(16, 8, 3, padding=1, deformable_groups=4)
    torch.nn.init.normal_(pack.conv_offset.weight, std=0.1)
    x, feature = torch.randn(2, 16, 7, 5), torch.randn(2, 16, 7, 5)
    first, second, mask = torch.chunk(pack.conv_offset(feature), 3, dim=1)
    expected = oracle(x, torch.cat((first, second), 1), pack.weight, pack.bias, 1, 1, 1, torch.sigmoid(mask))
    torch.testing.assert_close(pack(x, feature), expected, rtol=1e-4, atol=1e-5)


def test_offsets_are_measured_only_when_asked():
    pack = ModulatedDeformConvPack(16, 8, 3, padding=1, deformable_groups=4)
    torch.nn.init.constant_(pack.conv_offset.bias, -3.0)
    x = torch.randn(2, 16, 7, 5)
    pack(x, x)
    assert pack.offset_magnitude.tolist() == [0, 0]
    pack.track_offsets = True
    pack(x, x)
    assert pack.offset_magnitude.tolist() == [3, 3]


@pytest.mark.parametrize(
    "options", [{"deformable_groups": 3}, {"groups": 5}, {"out_channels": 7, "groups": 2}, {"kernel_size": 0}]
)
def test_the_pack_refuses_sizes_that_do_not_divide(options):
    with pytest.raises(ValueError, match="expected"):
        ModulatedDeformConvPack(**{"in_channels": 16, "out_channels": 8, "kernel_size": 3, **options})
