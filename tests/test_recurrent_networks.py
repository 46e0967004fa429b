"""BasicVSR, IconVSR, BasicVSR++, RealBasicVSR: equality with the published networks, sizes, bad input."""

import json
from pathlib import Path

import pytest
import torch
from edvr_cases import summary
from published import published
from published_mmagic import published_real
from recurrent_cases import CASES, REAL_CASES, REAL_SIZE, SLOW_CASES, clip, filled, quick

from vsr import archs
from vsr.archs import BasicVSR, BasicVSRPlusPlus, IconVSR, RealBasicVSRNet, SpyNet
from vsr.archs.build import checked_network
from vsr.archs.discriminator import UNetDiscriminatorWithSpectralNorm, VGGStyleDiscriminator
from vsr.archs.weight_names import to_mmagic
from vsr.costs import num_parameters
from vsr.engine.recompute import blocks, recompute_blocks

PUBLISHED = json.loads((Path(__file__).parent / "data" / "recurrent_published.json").read_text())
SMALL = {
    BasicVSR: {"num_feat": 4, "num_block": 1},
    IconVSR: {"num_feat": 8, "num_block": 1},
    BasicVSRPlusPlus: {"mid_channels": 8, "num_blocks": 1},
    RealBasicVSRNet: {"mid_channels": 4, "num_propagation_blocks": 1, "num_cleaning_blocks": 1},
}
NETWORKS = [*SMALL.items(), (BasicVSR, {**SMALL[BasicVSR], "causal": True})]
NETWORKS.append((BasicVSRPlusPlus, {**SMALL[BasicVSRPlusPlus], "is_low_res_input": False}))
IDS = ["BasicVSR", "IconVSR", "BasicVSR++", "RealBasicVSR", "causal", "x1"]


def as_published(ours, theirs):
    """Compares summaries; the stored ones were computed in float64 by data/make_recurrent_published.py."""
    assert set(ours["names"]) == set(theirs["names"])
    output, expected = (torch.tensor(of["output"], dtype=torch.float64) for of in (ours, theirs))
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    norms = dict(zip(ours["names"], ours["gradient_norms"], strict=True))
    for parameter, norm in zip(theirs["names"], theirs["gradient_norms"], strict=True):
        assert norms[parameter] == pytest.approx(norm, rel=1e-8, abs=1e-13), parameter


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_equal_the_published_network(case):
    name, options, size = CASES[case]
    as_published(summary(quick(getattr(archs, name)(**options)), clip(size)), PUBLISHED[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW_CASES)
def test_outputs_and_gradients_with_spynet_equal_the_published_network(case):
    name, options, size = SLOW_CASES[case]
    as_published(summary(filled(getattr(archs, name)(**options)), clip(size)), PUBLISHED[case])


@pytest.mark.parametrize("case", REAL_CASES)
def test_outputs_and_gradients_of_realbasicvsr_equal_the_published_ones(case):
    as_published(
        summary(filled(RealBasicVSRNet(**REAL_CASES[case])).requires_grad_(True), clip(REAL_SIZE)), PUBLISHED[case]
    )


def test_mmagics_realbasicvsr_gives_the_same_frames():
    try:
        theirs = published_real(**REAL_CASES["RealBasicVSR"]).double()
    except ImportError:
        pytest.skip("needs pip install --no-deps mmagic==1.2.0")
    ours, lq = filled(RealBasicVSRNet(**REAL_CASES["RealBasicVSR"])), clip(REAL_SIZE, moved=2.0)
    theirs.load_state_dict(to_mmagic(ours.state_dict(), prefix=""))
    for own, expected in zip(ours(lq, return_lqs=True), theirs(lq, return_lqs=True), strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-9)


def test_flows_equal_the_published_ones():
    frames = clip((2, 33, 40))
    with torch.no_grad():
        flow = filled(SpyNet())(frames[:, 0], frames[:, 1]).flatten()[::7]
    expected = torch.tensor(PUBLISHED["SpyNet"]["flow"], dtype=torch.float64)
    torch.testing.assert_close(flow, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_a_published_network_gives_the_same_frames(case):
    name, options, size = CASES[case]
    try:
        theirs = published(name, **options)
    except ImportError:
        pytest.skip("needs pip install --no-deps basicsr==1.4.2")
    ours = getattr(archs, name)(**options)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    lq = clip(size, moved=2.0)
    torch.testing.assert_close(quick(ours)(lq), quick(theirs)(lq), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: SpyNet(), 1_440_300),
        (lambda: BasicVSR(64, 30), 6_291_311),
        (lambda: BasicVSR(64, 15), 4_075_631),
        (lambda: BasicVSR(64, 20), 4_814_191),
        (lambda: IconVSR(64, 30), 8_694_991),
        (lambda: IconVSR(64, 30, temporal_padding=3), 8_711_375),
        (lambda: IconVSR().edvr, 2_227_488),
        (lambda: BasicVSRPlusPlus(), 7_322_927),
        (lambda: BasicVSRPlusPlus(128, 25), 43_780_463),
        (lambda: BasicVSRPlusPlus(64, 15, is_low_res_input=False), 9_760_175),
        (lambda: RealBasicVSRNet(), 6_294_834),
        (lambda: RealBasicVSRNet().image_cleaning, 1_480_643),
        (lambda: UNetDiscriminatorWithSpectralNorm(3, 64), 4_376_897),
        (lambda: VGGStyleDiscriminator(3, 32, 256), 5_471_113),
    ],
)
def test_the_published_sizes_have_the_published_numbers_of_parameters(build, count):
    with torch.device("meta"):
        assert num_parameters(build()) == count


@pytest.mark.parametrize(("network", "options"), NETWORKS, ids=IDS)
def test_a_network_keeps_its_spec(network, options):
    checked_network(lambda: network(**options))


@pytest.mark.parametrize("size", [(1, 1), (1, 33), (5, 6), (31, 70)])
@pytest.mark.parametrize(("network", "options"), NETWORKS, ids=IDS)
def test_frames_of_any_size_are_restored(network, options, size):
    network = network(**options).eval()
    with torch.no_grad():
        sr = network(torch.rand(1, network.spec.min_frames, 3, *size))
    assert sr.shape == (1, network.spec.min_frames, 3, *(side * network.spec.scale for side in size))
    assert sr.isfinite().all()


@pytest.mark.parametrize(("network", "options"), [pair for pair in NETWORKS if pair[0] is not IconVSR])
def test_a_clip_of_one_frame_is_restored(network, options):
    with torch.no_grad():
        assert network(**options)(torch.rand(2, 1, 3, 8, 8)).shape[:2] == (2, 1)


def test_a_clip_too_short_for_iconvsr_is_refused():
    with pytest.raises(ValueError, match="reads clips of at least 7 frames, got 6: train with a larger num_frame"):
        IconVSR(**SMALL[IconVSR], temporal_padding=3)(torch.rand(1, 6, 3, 8, 8))


def test_a_width_that_the_deformable_groups_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="mid_channels: 12 is not a multiple of 8"):
        BasicVSRPlusPlus(mid_channels=12)


def test_a_mirrored_clip_leaves_nothing_behind():
    """The published network computes the forward flows of all clips after it wrongly."""
    network, lq = quick(BasicVSRPlusPlus(**SMALL[BasicVSRPlusPlus])), clip((3, 10, 12))
    before = network(lq)
    mirrored = network(torch.cat([lq, lq.flip(1)], 1))
    assert mirrored.shape[1] == 6 and torch.equal(network(lq), before)


def test_iconvsrs_windows_are_mirrored_as_edvrs():
    """Any other order gives other numbers: the frame before the first is frame 3, not frame 1."""
    windows = IconVSR(**SMALL[IconVSR], keyframe_stride=5).windows(9)
    assert windows == {0: [4, 3, 0, 1, 2], 5: [3, 4, 5, 6, 7], 8: [6, 7, 8, 5, 4]}
    assert IconVSR(**SMALL[IconVSR], temporal_padding=3).windows(7)[0] == [6, 5, 4, 0, 1, 2, 3]


def test_the_reversed_clip_is_restored_by_swapped_branches():
    network = quick(BasicVSR(**SMALL[BasicVSR]))
    lq = clip((3, 12, 10))
    expected = network(lq).flip(1)
    network.forward_trunk, network.backward_trunk = network.backward_trunk, network.forward_trunk
    network.fusion.weight.data = torch.cat(network.fusion.weight.data.chunk(2, 1)[::-1], 1)
    torch.testing.assert_close(network(lq.flip(1)), expected, rtol=0, atol=1e-12)


def test_a_causal_network_does_not_look_ahead():
    network = quick(BasicVSR(**SMALL[BasicVSR], causal=True))
    lq = clip((4, 12, 12))
    torch.testing.assert_close(network(lq)[:, :2], network(lq[:, :2]), rtol=0, atol=1e-12)
    assert not any(name.startswith("backward") for name in network.state_dict())
    torch.testing.assert_close(BasicVSR.forward(network, lq)[:, 3:], network(lq)[:, 3:])


@pytest.mark.parametrize(("network", "options"), NETWORKS, ids=IDS)
def test_frames_of_16_bits_have_flows_of_32_bits(network, options):
    """A flow in bfloat16 would be wrong by a pixel beyond a width of 256; weights and features may have 16 bits."""
    network = filled(network(**options)).float().eval()
    lq = clip((max(network.spec.min_frames, 2), 12, 272)).float()
    flows = []
    spynet = next(module for module in network.modules() if isinstance(module, SpyNet))
    spynet.register_forward_hook(lambda *arguments: flows.append(arguments[2]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network(lq)
    with torch.no_grad():
        full, half = network(lq), network.bfloat16()(lq.bfloat16())
    assert {flow.dtype for flow in flows} == {torch.float32} and half.dtype == torch.bfloat16
    assert (half - full).abs().mean() < 0.05 * full.abs().mean()
    if network.spec.scale == 4 and not isinstance(network, RealBasicVSRNet):
        for in_autocast, in_float in zip(flows[:2], flows[2:4], strict=False):
            torch.testing.assert_close(in_autocast, in_float)


def test_double_precision_stays_double():
    flow = SpyNet().double()(clip((1, 33, 40))[:, 0], clip((1, 33, 40), 1.0)[:, 0])
    assert flow.dtype == torch.float64


@pytest.mark.parametrize(("network", "options"), [*NETWORKS[:3], NETWORKS[5]])
def test_long_clips_wait_in_the_cpus_memory(network, options):
    network, lq = quick(network(**options)), clip((6, 12, 12))
    network.cpu_cache_length = None
    expected = network(lq)
    network.cpu_cache_length = 3
    torch.testing.assert_close(network(lq), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("network", "options"), NETWORKS, ids=IDS)
def test_recomputed_branches_have_the_same_gradients(network, options):
    network = filled(network(**options))
    lq = clip((max(network.spec.min_frames, 3), 12, 12))
    expected = gradients(network, lq)
    names = {type(block).__name__ for block in blocks(network)}
    assert names >= {"ConvResidualBlocks", "SpyNet"} and not names & {"BasicVSR", "ModuleDict", "EDVRExtractor"}
    recompute_blocks(network)
    torch.testing.assert_close(gradients(network, lq), expected, rtol=1e-12, atol=1e-18)


def gradients(network, lq):
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.autograd.grad(network(lq).square().mean(), trained, allow_unused=True, materialize_grads=True)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "options"), NETWORKS, ids=IDS)
def test_a_compiled_network_gives_the_same_frames_and_gradients(network, options):
    network = filled(network(**options)).float()
    lq = clip((max(network.spec.min_frames, 3), 12, 14)).float()
    expected, slopes = network(lq), gradients(network, lq)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(lq), expected, rtol=1e-4, atol=1e-5)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    ours = torch.autograd.grad(compiled(lq).square().mean(), trained, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(ours, slopes, rtol=1e-2, atol=1e-5)


@pytest.mark.slow
def test_repeated_cleaning_compiles_around_the_decision():
    network = filled(RealBasicVSRNet(**SMALL[RealBasicVSRNet], dynamic_refine_thres=1)).float()
    lq = clip((2, 12, 12)).float()
    torch.testing.assert_close(torch.compile(network, backend="aot_eager")(lq), network(lq), rtol=1e-4, atol=1e-5)


def test_cleaning_repeats_until_little_changes():
    network = RealBasicVSRNet(**SMALL[RealBasicVSRNet]).double()
    for parameter in network.image_cleaning.parameters():
        parameter.data.zero_()
    lq = clip((2, 8, 8))
    for change, passes in ((4, 1), (6, 3)):
        network.image_cleaning[1].bias.data.fill_(change / 255)
        network.threshold = 5
        torch.testing.assert_close(network.clean(lq), lq + passes * change / 255)
        network.threshold = 255
        torch.testing.assert_close(network.clean(lq), lq + change / 255)


def test_sequential_cleaning_decides_frame_by_frame():
    network = filled(RealBasicVSRNet(**SMALL[RealBasicVSRNet]))
    lq = clip((3, 12, 12))
    together = network(lq)
    network.is_sequential_cleaning = True
    torch.testing.assert_close(network(lq), together)
    network.threshold = 1e-3
    alone = torch.cat([network.clean_together(lq[:, i : i + 1]) for i in range(3)], 1)
    torch.testing.assert_close(network.clean(lq), alone)


def test_the_flow_network_of_realbasicvsr_is_frozen():
    network = RealBasicVSRNet(**SMALL[RealBasicVSRNet])
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in network.named_parameters() if name.startswith("basicvsr.spynet.")}
    fixed = RealBasicVSRNet(**SMALL[RealBasicVSRNet], is_fix_cleaning=True)
    assert not any(parameter.requires_grad for parameter in fixed.image_cleaning.parameters())


def test_the_discriminator_judges_every_pixel():
    network = UNetDiscriminatorWithSpectralNorm(3, 4)
    assert network(torch.rand(2, 3, 16, 24)).shape == (2, 1, 16, 24)
    assert "conv_1.weight_orig" in network.state_dict()


def test_the_vgg_style_discriminator_is_basicsrs():
    try:
        theirs = published("VGGStyleDiscriminator", num_in_ch=3, num_feat=4, input_size=128)
    except ImportError:
        pytest.skip("needs pip install --no-deps basicsr==1.4.2")
    ours, image = VGGStyleDiscriminator(3, 4, 128), torch.rand(2, 3, 128, 128)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(image), theirs(image))


@pytest.mark.slow
def test_inductor_gives_the_same_frames():
    """torch.compile's default compiles C++, which takes long: a flow network and a head that are small."""
    network = quick(BasicVSR(**SMALL[BasicVSR], causal=True)).float().eval()
    lq = clip((2, 12, 14)).float()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(network)(lq), network(lq), rtol=1e-4, atol=1e-5)
