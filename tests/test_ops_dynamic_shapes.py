"""Networks with both operators, exported and compiled once for frames of any height and width."""

import pytest
import torch
from back_ends import compiled
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.export import Dim, export

from vsr.ops import ModulatedDeformConvPack, local_window_read

SIZES = ((24, 9), (9, 24), (13, 17))


class AlignAndRead(nn.Module):
    """The frames of a window aligned to its centre, as EDVR does, and read around each position, as memories do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, 8, 3, padding=1)
        self.align = ModulatedDeformConvPack(8, 8, 3, padding=1, deformable_groups=2)
        nn.init.normal_(self.align.conv_offset.weight, std=0.05)

    def forward(self, lq):
        b, t, _, _, _ = lq.shape
        feature = self.conv_first(lq.flatten(0, 1)).unflatten(0, (b, t))
        center = feature[:, t // 2]
        aligned = [self.align(feature[:, i], torch.tanh(feature[:, i] + center)) for i in range(t)]
        return local_window_read(center, torch.stack(aligned, 1), None, 3).read


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return AlignAndRead()


@compiled
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_network_takes_frames_of_any_size(network, strict):
    height, width = Dim("height", min=8, max=2160), Dim("width", min=8, max=4096)
    lq = torch.randn(1, 3, 3, 12, 20)
    program = export(network, (lq,), dynamic_shapes={"lq": {3: height, 4: width}}, strict=strict)
    operators = {str(x.target) for x in program.graph.nodes}
    assert operators >= {"vsr.deform_conv2d.default", "vsr.local_window_read.default"}
    for size in SIZES:
        lq = torch.randn(1, 3, 3, *size)
        torch.testing.assert_close(program.module()(lq), network(lq))


@compiled
def test_one_compiled_graph_serves_frames_of_any_size(network):
    torch._dynamo.reset()
    backend = CompileCounterWithBackend("aot_eager")
    graph = torch.compile(network, fullgraph=True, dynamic=True, backend=backend)
    for size in SIZES:
        lq, gradients = torch.randn(1, 3, 3, *size), []
        for module in (network, graph):
            network.zero_grad()
            module(lq).square().sum().backward()
            gradients.append([p.grad for p in network.parameters()])
        torch.testing.assert_close(*gradients)
    assert backend.frame_count == 1
