"""BasicVSR with memories of its states."""

from functools import partial

import pytest
import torch

from vsr.archs.recurrent import memory_basicvsr as module
from vsr.archs.recurrent.basicvsr import BasicVSR
from vsr.archs.recurrent.memory_basicvsr import MemoryBasicVSR
from vsr.memory import PixSentence, PixSim, PixWise

SMALL = {"num_feat": 8, "num_block": 1}
MEMORIES = {"pixsim": partial(PixSim, crop=3), "pixwise": partial(PixWise, crop=3), "pixsentence": PixSentence}


def build(name, **options):
    torch.manual_seed(0)
    return MemoryBasicVSR(MEMORIES[name], map_size=(9, 10), **{**SMALL, **options})


@pytest.fixture(autouse=True)
def quick_flows(monkeypatch):
    """A flow that needs no network of 1.4 million parameters: half a pixel to the right, a quarter down."""

    def flow(self, ref, supp):
        return ref.new_tensor([0.5, 0.25]).view(1, 2, 1, 1).expand(len(ref), 2, *ref.shape[2:]).contiguous()

    monkeypatch.setattr("vsr.archs.recurrent.spynet.SpyNet.forward", flow)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", MEMORIES)
def test_a_pretrained_network_starts_unchanged_bit_for_bit(name, causal):
    plain = BasicVSR(**SMALL, causal=causal)
    network = build(name, causal=causal)
    missing = network.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys and all("_memory." in key for key in missing.missing_keys)
    lq = torch.rand(1, 5, 3, 9, 10)
    assert torch.equal(network(lq), plain(lq))


@pytest.mark.parametrize("name", MEMORIES)
def test_each_step_reads_the_states_before_it_and_gradients_reach_the_memory(name):
    network = build(name, memory_size=3)
    for fusion in (network.forward_memory, network.backward_memory):
        torch.nn.init.normal_(fusion.output.weight, std=0.1)
    seen = []
    network.forward_memory.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    network(torch.rand(2, 6, 3, 9, 10)).square().sum().backward()
    assert [sentences.shape[1] for _, sentences in seen] == [1, 2, 3, 3, 3]
    assert all(torch.equal(query, sentences[:, -1]) for query, sentences in seen)
    memories = [(key, p.grad) for key, p in network.named_parameters() if "_memory." in key]
    assert memories and all(grad is not None and grad.isfinite().all() for _, grad in memories)


def test_states_are_aligned_by_the_composed_flow(monkeypatch):
    """With a constant flow, the state of k steps ago is warped once, by k times the flow."""
    network, flows = build("pixwise", memory_size=3), []
    warp = module.flow_warp  # features have 8 channels, flows have 2
    monkeypatch.setattr(module, "flow_warp", lambda x, flow: flows.append((x.shape[1], flow)) or warp(x, flow))
    network(torch.rand(1, 4, 3, 9, 10))
    inner = [flow[0, :, 4, 4].tolist() for channels, flow in flows if channels == 8][-3:]
    assert inner == [[1.5, 0.75], [1.0, 0.5], [0.5, 0.25]]


def test_a_clip_of_one_frame_needs_no_memory():
    assert build("pixwise")(torch.rand(1, 1, 3, 9, 10)).shape == (1, 1, 3, 36, 40)
