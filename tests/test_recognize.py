"""Weights of published networks: recognised by names and shapes, loaded without a flag, converted."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vsr import archs, convert
from vsr.__main__ import run
from vsr.archs import EDVR, BasicVSR, BasicVSRPlusPlus, IconVSR, RealBasicVSRNet, SpyNet
from vsr.archs.recognize import recognize
from vsr.archs.weight_names import to_mmagic, to_ours
from vsr.config.options import PathOptions
from vsr.engine.saving.weights import from_files, load_weights
from vsr.utils.errors import UserError
from vsr.utils.weight_files import read_weights
from vsr.video.network import load_network

EDVR_OPTIONS = {"num_feat": 8, "num_frame": 3, "deformable_groups": 4, "num_extract_block": 1}
EDVR_OPTIONS |= {"num_reconstruct_block": 2, "hr_in": False, "with_predeblur": False, "with_tsa": True}
OPTIONS = [
    {"type": "EDVR", **EDVR_OPTIONS},
    {"type": "EDVR", **EDVR_OPTIONS, "with_tsa": False, "scale": 3},
    {"type": "EDVR", **EDVR_OPTIONS, "hr_in": True, "with_predeblur": True},
    {"type": "BasicVSR", "num_feat": 4, "num_block": 2},
    {"type": "BasicVSR", "num_feat": 4, "num_block": 1, "causal": True},
    {"type": "BasicVSR", "num_feat": 4, "num_block": 1, "flow_feat": 3},
    {"type": "IconVSR", "num_feat": 8, "num_block": 1, "temporal_padding": 3},
    {"type": "BasicVSRPlusPlus", "mid_channels": 8, "num_blocks": 2, "is_low_res_input": True},
    {"type": "BasicVSRPlusPlus", "mid_channels": 8, "num_blocks": 1, "is_low_res_input": False},
    {"type": "RealBasicVSRNet", "mid_channels": 4, "num_propagation_blocks": 1, "num_cleaning_blocks": 2},
    {"type": "SpyNet"},
    {"type": "SpyNet", "flow_feat": 8},
]
# (mmagic's, ours), after the prefix
NAMES = [
    ("spynet.basic_module.5.basic_module.3.conv.weight", "spynet.basic_module.5.basic_module.6.weight"),
    ("basicvsr.spynet.basic_module.0.basic_module.0.conv.bias", "basicvsr.spynet.basic_module.0.basic_module.0.bias"),
    ("backward_resblocks.main.2.29.conv1.weight", "backward_trunk.main.2.29.conv1.weight"),
    ("basicvsr.forward_resblocks.main.0.bias", "basicvsr.forward_trunk.main.0.bias"),
    ("upsample1.upsample_conv.weight", "upconv1.weight"),
    ("basicvsr.upsample2.upsample_conv.bias", "basicvsr.upconv2.bias"),
    ("edvr.feat_l2_conv1.conv.weight", "edvr.conv_l2_1.weight"),
    ("feat_l3_conv2.conv.bias", "conv_l3_2.bias"),
    ("edvr.pcd_alignment.offset_conv3.l2.conv.weight", "edvr.pcd_align.offset_conv3.l2.weight"),
    ("pcd_alignment.feat_conv.l1.conv.bias", "pcd_align.feat_conv.l1.bias"),
    ("pcd_alignment.cas_offset_conv2.conv.weight", "pcd_align.cas_offset_conv2.weight"),
    ("pcd_alignment.dcn_pack.l3.conv_offset.weight", "pcd_align.dcn_pack.l3.conv_offset.weight"),
    ("pcd_alignment.cas_dcnpack.bias", "pcd_align.cas_dcnpack.bias"),
    ("fusion.feat_fusion.conv.weight", "fusion.feat_fusion.weight"),
    ("edvr.fusion.spatial_attn4.conv.weight", "edvr.fusion.spatial_attn4.weight"),
    ("fusion.spatial_attn_l3.conv.bias", "fusion.spatial_attn_l3.bias"),
    ("fusion.spatial_attn_add1.conv.bias", "fusion.spatial_attn_add1.bias"),
    *((same, same) for same in ("fusion.temporal_attn1.weight", "fusion.spatial_attn5.bias", "fusion.weight")),
    *((same, same) for same in ("fusion.spatial_attn_add2.bias", "backward_fusion.weight", "conv_last.weight")),
    *((same, same) for same in ("deform_align.forward_2.conv_offset.6.bias", "image_cleaning.0.main.2.3.conv2.bias")),
    *((same, same) for same in ("feat_extract.4.main.0.weight", "reconstruction.main.2.0.conv1.weight", "spynet.mean")),
]


def build(options):
    return getattr(archs, options["type"])(**{key: value for key, value in options.items() if key != "type"})


@pytest.mark.parametrize(("theirs", "ours"), NAMES)
def test_names_of_mmagic_and_basicsr_are_told_apart(theirs, ours):
    value = torch.zeros(1)
    assert ours in to_ours({f"generator.{theirs}": value, "step_counter": value})
    assert ours in to_ours({ours: value})
    assert list(to_mmagic({ours: value})) == [f"generator.{theirs}"]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options["type"])
def test_a_network_is_recognised_in_each_form(tmp_path, options):
    network = build(options)
    own = network.state_dict()
    torch.save({"params": own}, tmp_path / "basicsr.pth")
    others = {"discriminator.conv_0.weight": torch.ones(1), "perceptual_loss.vgg.mean": torch.ones(1)}
    prefix = "" if options["type"] == "SpyNet" else "generator."
    mmagic = {**to_mmagic(own, prefix), **({**others, "step_counter": torch.zeros(1)} if prefix else {})}
    torch.save({"state_dict": mmagic, "meta": {"epoch": 1}}, tmp_path / "mmagic.pth")
    for file in ("basicsr.pth", "mmagic.pth"):
        found = recognize(read_weights(tmp_path / file), file)
        assert found.options == options
        load_weights(build(options), read_weights(tmp_path / file), tmp_path / file)
        for name, value in found.build().state_dict().items():
            assert torch.equal(value, own[name]), name


def test_three_layouts_of_spynet_are_loaded_as_a_part(tmp_path):
    network = BasicVSR(4, 1)
    spynet = SpyNet().state_dict()
    convolutions = {name: value for name, value in spynet.items() if name.startswith("basic_module")}
    first = {name.replace("basic_module", "moduleBasic"): value for name, value in convolutions.items()}
    torch.save({"params": convolutions}, tmp_path / "basicsr.pth")
    torch.save(to_mmagic(spynet, ""), tmp_path / "mmagic.pth")
    torch.save(first, tmp_path / "first.pth")
    for name in ("basicsr", "mmagic", "first"):
        network.spynet.load_state_dict(SpyNet().state_dict())
        from_files(network, PathOptions({"spynet": str(tmp_path / f"{name}.pth")}))
        for key, value in network.spynet.state_dict().items():
            assert torch.equal(value, spynet[key]), (name, key)
        assert recognize(read_weights(tmp_path / f"{name}.pth")).options == {"type": "SpyNet"}


def test_an_edvr_fills_the_extractor_of_iconvsr(tmp_path):
    edvr, network = EDVR(num_feat=8), IconVSR(8, 1)
    torch.save({"state_dict": to_mmagic(edvr.state_dict())}, tmp_path / "edvr.pth")
    from_files(network, PathOptions({"edvr": str(tmp_path / "edvr.pth")}))
    for name, value in network.edvr.state_dict().items():
        assert torch.equal(value, edvr.state_dict()[name]), name
    assert recognize(network.edvr.state_dict()).options == {"type": "EDVRExtractor", "num_frame": 5, "num_feat": 8}


def test_the_average_of_mmagic_is_taken_where_an_average_is_preferred(tmp_path):
    plain, average = RealBasicVSRNet(4, 1, 1).state_dict(), RealBasicVSRNet(4, 1, 1).state_dict()
    both = {**to_mmagic(plain), **to_mmagic(average, "generator_ema.")}
    torch.save({"state_dict": both}, tmp_path / "both.pth")
    name = "basicvsr.fusion.weight"
    assert torch.equal(to_ours(read_weights(tmp_path / "both.pth"))[name], plain[name])
    assert torch.equal(to_ours(read_weights(tmp_path / "both.pth", prefer="params_ema"))[name], average[name])
    assert torch.equal(recognize(both).weights[name], average[name])


def test_weights_that_do_not_fit_are_listed():
    weights = BasicVSR(4, 2).state_dict()
    weights.pop("conv_hr.bias")
    weights["conv_last.weight"] = torch.zeros(3, 60, 3, 3)
    weights["more.weight"] = torch.zeros(1)
    with pytest.raises(UserError) as raised:
        recognize(weights, "a.pth")
    assert str(raised.value) == (
        "a.pth looks like {type: BasicVSR, num_feat: 4, num_block: 2}, but conv_hr.bias is missing; more.weight is not "
        "part of it; conv_last.weight is (3, 60, 3, 3), expected (3, 64, 3, 3)"
    )
    with pytest.raises(UserError, match=r"a\.pth holds weights of an unknown network, whose names begin with a; known"):
        recognize({"a.weight": torch.zeros(1)}, "a.pth")


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (BasicVSR(4, 1), r"does not fit BasicVSR: .*The file holds \{type: BasicVSR, num_feat: 4, num_block: 2\}"),
        (IconVSR(8, 1), r"does not fit IconVSR: .*The file holds \{type: BasicVSR, num_feat: 4, num_block: 2\}"),
    ],
)
def test_weights_of_another_network_are_named(tmp_path, network, text):
    file = tmp_path / "weights.pth"
    torch.save({"params": BasicVSR(4, 2).state_dict()}, file)
    with pytest.raises(UserError, match=text):
        load_weights(network, read_weights(file), file)


def test_weights_are_converted_and_back(tmp_path, capsys):
    network = BasicVSRPlusPlus(8, 1)
    start = tmp_path / "start.pth"
    torch.save({"params": network.state_dict()}, start)
    chain = [start, tmp_path / "a.safetensors", tmp_path / "b.pth", tmp_path / "c.pth"]
    for source, target, form in zip(chain, chain[1:], ("basicsr", "mmagic", "basicsr"), strict=False):
        assert run(["convert", str(source), str(target), "--form", form]) == 0
    assert "{type: BasicVSRPlusPlus, mid_channels: 8, num_blocks: 1, is_low_res_input: true}" in capsys.readouterr().out
    with safe_open(chain[1], "pt") as file:
        about = file.metadata()
    assert json.loads(about["vsr.network"])["type"] == "BasicVSRPlusPlus" and about["vsr.scale"] == "4"
    assert "generator.upsample1.upsample_conv.weight" in torch.load(chain[2], weights_only=True)["state_dict"]
    for name, value in torch.load(chain[3], weights_only=True)["params"].items():
        assert torch.equal(value, network.state_dict()[name]), name


def test_a_conversion_refuses_other_endings_and_existing_files(tmp_path):
    torch.save(SpyNet().state_dict(), tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"b\.pt: expected a name that ends in \.pth or \.safetensors"):
        convert.main([str(tmp_path / "a.pth"), str(tmp_path / "b.pt")])
    with pytest.raises(UserError, match=r"a\.pth exists: remove it"):
        convert.main([str(tmp_path / "a.pth"), str(tmp_path / "a.pth")])


def test_upscaling_needs_no_options_of_published_weights(tmp_path):
    file, network = tmp_path / "basicvsr.pth", BasicVSR(4, 1)
    torch.save({"state_dict": to_mmagic(network.state_dict())}, file)
    loaded = load_network(str(file), None, [], torch.device("cpu"))
    assert loaded.spec.reads == "clip" and torch.equal(loaded.network.fusion.weight, network.fusion.weight)
    torch.save({"a.weight": torch.zeros(1)}, file)
    with pytest.raises(UserError, match=r"unknown network, .* -opt FILE$"):
        load_network(str(file), None, [], torch.device("cpu"))
    torch.save(SpyNet().state_dict(), file)
    with pytest.raises(UserError, match="SpyNet"):
        load_network(str(file), None, [], torch.device("cpu"))


def test_a_network_of_ones_own_needs_its_options(tmp_path):
    file = tmp_path / "net_g_60.safetensors"
    save_file(BasicVSR(4, 1).state_dict(), file, {"vsr.network": '{"type": "MyWindow"}', "vsr.scale": "4"})
    text = (
        r"net_g_60.safetensors holds MyWindow, a network of your own: give -opt FILE, the options file whose `imports`"
    )
    with pytest.raises(UserError, match=text):
        load_network(str(file), None, [], torch.device("cpu"))
