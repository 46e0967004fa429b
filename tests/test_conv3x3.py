"""The 3×3 convolution on CPUs: its kernels beside PyTorch's convolution in float64, and when they are used."""

from functools import partial

import pytest
import torch
from back_ends import compiled, insist_on
from torch import nn
from torch.nn import functional as F

from vsr.archs.layers import conv_with_reference, half_conv, residual_blocks
from vsr.ops import Conv3x3, ModulatedDeformConvPack, backend, conv3x3
from vsr.ops.conv3x3 import op

LEVELS = ["portable", "avx2", "avx512"]  # one that the machine lacks falls back to the next narrower
SHAPES = {
    "whole tiles": (2, 32, 8, 12, 64),
    "parts of tiles": (1, 48, 13, 7, 32),
    "channels that fill no register": (2, 27, 9, 10, 37),
    "as many outputs as offsets and masks": (1, 64, 6, 6, 216),
    "a row": (1, 32, 1, 33, 32),
    "a column": (3, 32, 17, 1, 32),
    "a pixel": (1, 16, 1, 1, 16),
    "one channel, one output": (1, 1, 6, 5, 1),
    "more tiles than a block": (2, 16, 50, 51, 16),
}
# Root of the mean squared error, relative. In bfloat16 half a unit in the last place is at most 0.2 % of a number;
# transformed pixels and weights, and results, are rounded.
BOUNDS = {torch.float32: 3e-6, torch.bfloat16: 1.2e-2}

pytestmark = compiled
every_type = pytest.mark.parametrize("dtype", BOUNDS, ids=str)


def make(n, c, h, w, co, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n + c + h + w + co)
    x, grad = (torch.randn(n, k, h, w, generator=generator).to(dtype) for k in (c, co))
    weight = torch.randn(co, c, 3, 3, generator=generator) / (9 * c) ** 0.5
    return x, weight, torch.randn(co, generator=generator), grad


def exact(x, weight, bias, grad):
    """Output and gradients, in float64."""
    leaves = [tensor.double().requires_grad_() for tensor in (x, weight, bias)]
    output = F.conv2d(*leaves, padding=1)
    return [output.detach(), *torch.autograd.grad(output, leaves, grad.double())]


def kernels(x, weight, bias, grad, needed=(True, True, True)):
    output = torch.ops.vsr.conv3x3(x, weight, bias)
    return [output, *torch.ops.vsr.conv3x3_backward(grad, x, weight, list(needed))]


def errors(got, expected):
    return [
        float((a.detach().double() - b.detach()).norm() / b.detach().norm()) for a, b in zip(got, expected, strict=True)
    ]


@every_type
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_results_are_exact_up_to_rounding(shape, level, dtype, monkeypatch):
    monkeypatch.setenv("VSR_CPU_ISA", level)
    tensors = make(*SHAPES[shape], dtype)
    got = kernels(*tensors)
    assert [x.dtype for x in got] == [dtype, dtype, torch.float32, torch.float32]
    assert max(errors(got, exact(*tensors))) < BOUNDS[dtype]


@every_type
def test_any_size_is_right(dtype):
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        n, c, h, w, co = (int(torch.randint(1, most, (), generator=generator)) for most in (4, 80, 24, 24, 80))
        tensors = make(n, c, h, w, co, dtype)
        assert max(errors(kernels(*tensors), exact(*tensors))) < BOUNDS[dtype], (n, c, h, w, co)


@every_type
def test_the_layout_changes_nothing_but_the_layout(dtype):
    x, weight, bias, grad = make(*SHAPES["parts of tiles"], dtype)
    contiguous = kernels(x, weight, bias, grad)
    inside, grad_inside = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, grad))
    last = kernels(inside, weight.contiguous(memory_format=torch.channels_last), bias, grad_inside)
    assert all(torch.equal(a, b) for a, b in zip(contiguous, last, strict=True))
    for i in range(2):
        assert contiguous[i].is_contiguous() and last[i].is_contiguous(memory_format=torch.channels_last)


@every_type
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_parts_of_tensors_read_nothing_else(dtype, layout):
    x, weight, bias, grad = make(*SHAPES["parts of tiles"], dtype)
    expected = kernels(x, weight, bias, grad)

    def in_nan(tensor):
        whole = torch.full([size + 3 for size in tensor.shape], float("nan"), dtype=dtype).to(memory_format=layout)
        part = whole[1:-2, 2:-1, 1:-2, 2:-1]
        return part.copy_(tensor)

    got = kernels(in_nan(x), weight, bias, in_nan(grad))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@every_type
def test_images_and_threads_do_not_mix(dtype):
    x, weight, bias, grad = make(3, 32, 21, 18, 32, dtype)
    both, grad_input, grad_weight, _ = kernels(x, weight, bias, grad)
    alone = torch.cat([torch.ops.vsr.conv3x3(image[None], weight, bias) for image in x])
    assert torch.equal(both, alone)
    before = torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            first, second = (kernels(x, weight, bias, grad) for _ in range(2))
            assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
            assert torch.equal(first[0], both) and torch.equal(first[1], grad_input)
            assert (
                errors(first[2:3], [grad_weight.double()])[0] < BOUNDS[torch.float32]
            )  # parts are summed in another order
    finally:
        torch.set_num_threads(before)


@every_type
def test_not_a_number_stays_in_its_image_and_near_its_place(dtype):
    x, weight, bias, _ = make(2, 32, 24, 24, 32, dtype)
    clean = torch.ops.vsr.conv3x3(x, weight, bias)
    x[0, 3, 9, 10] = float("nan")
    output = torch.ops.vsr.conv3x3(x, weight, bias)
    assert output[0, :, 8:11, 9:12].isnan().all() and torch.equal(output[1], clean[1])
    assert torch.equal(output[0, :, :4], clean[0, :, :4]) and torch.equal(output[0, :, 16:], clean[0, :, 16:])


@every_type
def test_nothing_gives_nothing(dtype):
    x, weight, bias, grad = make(2, 32, 8, 8, 32, dtype)
    output, grad_input, grad_weight, grad_bias = kernels(x[:0], weight, bias, grad[:0])
    assert output.shape == (0, 32, 8, 8) and grad_input.shape == (0, 32, 8, 8)
    assert not grad_weight.any() and not grad_bias.any()


def test_one_gradient_alone_is_the_same():
    tensors = make(*SHAPES["parts of tiles"])
    everything = kernels(*tensors)
    for i in range(3):
        alone = kernels(*tensors, needed=[k == i for k in range(3)])
        assert torch.equal(alone[i + 1], everything[i + 1])
    assert kernels(*tensors, needed=[True, False, False])[2].numel() == 0


def test_the_operator_obeys_pytorchs_rules():
    for layout in (torch.contiguous_format, torch.channels_last):
        x, weight, bias, grad = make(*SHAPES["parts of tiles"])
        x, grad = x.to(memory_format=layout), grad.to(memory_format=layout)
        leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]
        torch.library.opcheck(torch.ops.vsr.conv3x3.default, leaves)
        for needed in ([True] * 3, [False, True, False]):
            torch.library.opcheck(torch.ops.vsr.conv3x3_backward.default, (grad, x.detach(), weight.detach(), needed))


def test_a_direct_call_checks_sizes():
    x, weight, bias, grad = make(*SHAPES["a row"])
    for arguments in (
        (x[0], weight, bias),
        (x, weight[:, 1:], bias),
        (x, weight, bias[1:]),
        (x.double(), weight, bias),
    ):
        with pytest.raises(RuntimeError, match=r"must (be|have)"):
            torch.ops.vsr.conv3x3(*arguments)
    with pytest.raises(RuntimeError, match="grad_output must be like the output"):
        torch.ops.vsr.conv3x3_backward(grad[:, 1:], x, weight, [True] * 3)


class TestTheFunction:
    """When the kernels are used, and what a user sees of them."""

    @pytest.fixture(autouse=True)
    def every_cpu_has_vectors(self, monkeypatch):
        monkeypatch.setattr(op, "HAS_VECTORS", True)

    @staticmethod
    def called(function):
        """The operators that a function calls."""
        with torch.profiler.profile() as profile:
            function()
        names = {event.name for event in profile.events()}
        return names & {"vsr::conv3x3", "vsr::conv3x3_backward", "aten::conv2d"}

    def test_training_equals_pytorchs(self):
        x, weight, bias, grad = make(1, 32, 16, 18, 48)
        leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]
        assert self.called(lambda: conv3x3(*leaves).backward(grad)) == {"vsr::conv3x3", "vsr::conv3x3_backward"}
        expected = exact(x.detach(), weight.detach(), bias.detach(), grad)
        assert max(errors([leaf.grad for leaf in leaves], expected[1:])) < BOUNDS[torch.float32]

    def test_what_needs_no_gradient_has_none(self):
        x, weight, _, grad = make(1, 32, 16, 18, 48)
        conv3x3(x, weight.requires_grad_(), None).backward(grad)
        assert x.grad is None and weight.grad is not None

    def test_it_is_differentiable_once(self):
        x, weight, _, _ = make(1, 32, 16, 18, 48)
        (slope,) = torch.autograd.grad(conv3x3(x.requires_grad_(), weight).square().sum(), x)
        assert torch.isfinite(slope).all()
        with pytest.raises(RuntimeError, match="differentiable once on CPUs; VSR_OPS=reference"):
            torch.autograd.grad(conv3x3(x, weight).square().sum(), x, create_graph=True)

    @pytest.mark.parametrize(
        "shape",
        [(1, 3, 32, 32, 32), (1, 8, 32, 32, 8), (1, 32, 15, 17, 32)],
        ids=["an image", "few channels", "few pixels"],
    )
    def test_where_pytorch_is_as_fast_it_is_used(self, shape):
        x, weight, bias, _ = make(*shape)
        assert self.called(lambda: conv3x3(x, weight, bias)) == {"aten::conv2d"}
        assert torch.equal(conv3x3(x, weight, bias), F.conv2d(x, weight, bias, padding=1))

    def test_few_outputs_are_slow_only_backwards(self):
        x, weight, bias, _ = make(1, 32, 16, 16, 3)
        assert self.called(lambda: conv3x3(x, weight, bias)) == {"vsr::conv3x3"}
        assert self.called(lambda: conv3x3(x.requires_grad_(), weight, bias)) == {"aten::conv2d"}
        with torch.no_grad():
            assert self.called(lambda: conv3x3(x, weight, bias)) == {"vsr::conv3x3"}

    def test_other_types_are_pytorchs(self):
        x, weight, bias, _ = (tensor.double() for tensor in make(1, 32, 16, 16, 32))
        assert conv3x3(x, weight, bias).dtype == torch.float64
        with pytest.raises(RuntimeError):
            conv3x3(x, weight.float(), bias.float())

    @pytest.mark.parametrize(
        ("is_autocast", "name", "dtype"),
        [
            (False, "bias", torch.float64),
            (False, "bias", torch.bfloat16),
            (True, "input", torch.int32),
            (True, "weight", torch.float64),
            (True, "bias", torch.float64),
        ],
        ids=str,
    )
    def test_types_that_do_not_fit_are_refused_as_by_pytorch(self, is_autocast, name, dtype, monkeypatch):
        monkeypatch.setattr(op, "MULTIPLIES_16_BITS", True)
        tensors = dict(zip(("input", "weight", "bias"), make(1, 32, 16, 16, 32)[:3], strict=True))
        tensors[name] = tensors[name].to(dtype)
        for function in (conv3x3, partial(F.conv2d, padding=1)):
            with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast), pytest.raises(RuntimeError, match="type"):
                function(**tensors)

    def test_a_weight_without_taps_is_refused_as_by_pytorch(self):
        x, _, bias, _ = make(1, 32, 16, 16, 32)
        with pytest.raises(RuntimeError, match="weight"):
            conv3x3(x, bias)

    def test_the_reference_is_pytorchs(self, monkeypatch):
        x, weight, bias, _ = make(1, 32, 16, 16, 32)
        insist_on("reference", monkeypatch)
        assert self.called(lambda: conv3x3(x, weight, bias)) == {"aten::conv2d"}
        backend.choices.clear()

    @pytest.mark.parametrize("has_units", [True, False])
    def test_under_autocast_bfloat16_runs_where_vectors_multiply_it(self, has_units, monkeypatch):
        monkeypatch.setattr(op, "MULTIPLIES_16_BITS", has_units)
        x, weight, bias, grad = make(1, 32, 16, 18, 48)
        leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]
        with torch.autocast("cpu", torch.bfloat16):
            assert ("vsr::conv3x3" in self.called(lambda: conv3x3(*leaves))) == has_units
            output = conv3x3(*leaves)
        output.backward(grad.bfloat16())
        assert output.dtype == torch.bfloat16 and {leaf.grad.dtype for leaf in leaves} == {torch.float32}
        expected = exact(*(tensor.detach() for tensor in leaves), grad)
        assert max(errors([output, *(leaf.grad for leaf in leaves)], expected)) < 1e-2

    def test_compiled_programs_call_it_and_exported_ones_do_not(self):
        network = nn.Sequential(Conv3x3(32, 32), nn.ReLU(), Conv3x3(32, 32)).eval()
        x = torch.rand(1, 32, 16, 16)
        graph = torch.export.export(network, (x,)).graph_module.code
        assert "conv2d" in graph and "vsr" not in graph
        compiled_network = torch.compile(network, backend="aot_eager", fullgraph=True)
        assert "vsr::conv3x3" in self.called(lambda: compiled_network(x))
        assert torch.equal(compiled_network(x), network(x))

    def test_traced_programs_do_not_call_it(self):
        network = nn.Sequential(Conv3x3(32, 32), Conv3x3(32, 3))  # only the first is faster in training
        x = torch.rand(1, 32, 16, 16)
        traced = torch.jit.trace(network, x)
        assert "vsr::" not in str(traced.inlined_graph)
        assert errors([traced(x)], [network(x)])[0] < BOUNDS[torch.float32]

    def test_forward_mode_derivatives_are_pytorchs(self):
        x, weight, bias, _ = make(1, 32, 16, 16, 32)
        got, expected = (
            torch.func.jvp(partial(function, weight=weight, bias=bias), (x,), (x,))[1]
            for function in (conv3x3, partial(F.conv2d, padding=1))
        )
        assert torch.equal(got, expected) and expected.any()


def test_layers_keep_the_names_of_weights():
    assert set(Conv3x3(4, 4).state_dict()) == set(nn.Conv2d(4, 4, 3).state_dict())
    assert set(Conv3x3(4, 4, bias=False).state_dict()) == {"weight"}
    block = residual_blocks(1, 8)[0]
    assert isinstance(block.conv1, Conv3x3) and isinstance(block.conv2, Conv3x3)
    assert isinstance(ModulatedDeformConvPack(8, 8, 3, padding=1).conv_offset, Conv3x3)
    assert not isinstance(ModulatedDeformConvPack(8, 8, 3, padding=1, dilation=2).conv_offset, Conv3x3)


def test_joined_features_are_convolved_by_halves():
    conv = Conv3x3(64, 32)
    frames, reference = torch.rand(2, 3, 32, 16, 16), torch.rand(2, 32, 16, 16)
    joined = torch.cat([frames, reference.unsqueeze(1).expand_as(frames)], 2).flatten(0, 1)
    expected = F.conv2d(joined.double(), conv.weight.double(), conv.bias.double(), padding=1)
    half = half_conv(conv, frames.flatten(0, 1)).unflatten(0, (2, 3))
    for known in (None, half):
        assert errors([conv_with_reference(conv, frames, reference, known)], [expected])[0] < BOUNDS[torch.float32]
