"""What PyTorch and its users see of the deformable convolution: opcheck, torch.compile, messages."""

import itertools

import pytest
import torch
from back_ends import DEVICES, compiled
from deform_conv_cases import make

from vsr.ops import ModulatedDeformConvPack, deform_conv2d


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


def test_compiles_into_one_graph():
    pack = ModulatedDeformConvPack(16, 16, 3, padding=1, deformable_groups=2)
    torch.nn.init.normal_(pack.conv_offset.weight, std=0.05)
    graph = torch.compile(pack, fullgraph=True, backend="aot_eager")
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


@pytest.mark.parametrize("device", DEVICES)
def test_a_second_derivative_is_refused_not_wrong(device):
    tensors, geometry = make(device=device)
    x = tensors[0].requires_grad_()
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(deform_conv2d(*tensors[:4], **geometry, mask=tensors[4]).sum(), x, create_graph=True)


@pytest.mark.filterwarnings("ignore")
def test_the_layer_is_traced():
    """torch.jit.trace makes tensors of sizes."""
    layer = ModulatedDeformConvPack(4, 4, 3, padding=1)
    x = torch.randn(1, 4, 5, 6)
    torch.testing.assert_close(torch.jit.trace(layer, (x, x))(x, x), layer(x, x))


def scripted(input: torch.Tensor, offset: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.vsr.deform_conv2d(input, offset, weight, None, None, [1, 1], [1, 1], [1, 1])


@compiled
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated")
def test_a_scripted_function_calls_the_operator_itself():
    """As docs/ops.md says; the public function is not for torch.jit.script."""
    tensors = torch.randn(1, 4, 5, 6), torch.randn(1, 18, 5, 6), torch.randn(4, 4, 3, 3)
    assert torch.equal(torch.jit.script(scripted)(*tensors), deform_conv2d(*tensors, padding=1))
