from functools import partial
from pathlib import Path

import pytest
import torch
from synthetic import make_clips
from training import small_options, weights, write_options

from vsr import config
from vsr.archs import EDVR, EDVRMemory
from vsr.archs.edvr_memory import PYRAMID
from vsr.engine.saving.weights import load_weights
from vsr.memory import Flat2d, PixSentence, PixSim, PixWise
from vsr.train import main
from vsr.utils.errors import UserError

SMALL = {"num_feat": 8, "num_extract_block": 1, "num_reconstruct_block": 1, "deformable_groups": 2, "num_frame": 3}
POSITIONS = ["replace_tsa", "before_tsa", "after_tsa"]


def build(memory=None, seed=0, **options):
    torch.manual_seed(seed)
    return EDVRMemory(memory or partial(PixWise, crop=3), **({"map_size": (8, 12)} | SMALL | options))


def window(h=8, w=12, b=2, seed=0):
    return torch.rand(b, 3, 3, h, w, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("with_pcd", [True, False])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(
    "memory",
    [
        PixSim,
        partial(PixWise, crop=5, hops=2),
        partial(PixSentence, normalize="cosine"),
        partial(PixWise, flat2d=Flat2d(2, 3)),
        partial(PixSim, embedding="fc"),
    ],
)
def test_restores_and_trains_every_parameter(memory, position, with_pcd):
    network = build(memory, memory_position=position, with_pcd=with_pcd)
    for parameter in network.memory_fusion.output.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # behind zeros nothing has a gradient yet
    for _, module in network.named_modules():  # nor behind the zero offsets of a new deformable convolution
        if hasattr(module, "conv_offset"):
            torch.nn.init.normal_(module.conv_offset.weight, std=0.01)
    sr = network(window())
    assert sr.shape == (2, 3, 32, 48)
    sr.square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert without == []


@pytest.mark.parametrize("position", ["before_tsa", "after_tsa"])
@pytest.mark.parametrize("fusion", ["add", "concat"])
@pytest.mark.parametrize("memory", [PixSim, partial(PixWise, crop=3), PixSentence])
def test_a_pretrained_edvr_starts_unchanged_bit_for_bit(memory, fusion, position):
    torch.manual_seed(1)
    edvr = EDVR(**SMALL).eval()
    network = build(memory, memory_position=position, fusion=fusion).eval()
    match = load_weights(network, edvr.state_dict(), Path("edvr.pth"), strict=False)
    assert match.unexpected == []
    assert all(name.startswith("fusion.memory_fusion.") for name in match.missing)
    with torch.no_grad():
        assert torch.equal(network(window()), edvr(window()))


@pytest.mark.parametrize("sizes", [(64, 10), (128, 40)])
@pytest.mark.parametrize(("position", "with_pcd"), [(p, a) for p in POSITIONS for a in (True, False)])
def test_published_weights_load_where_the_parts_are_the_same(sizes, position, with_pcd):
    num_feat, num_reconstruct_block = sizes  # EDVR-M and EDVR-L
    with torch.device("meta"):
        edvr = EDVR(num_feat=num_feat, num_reconstruct_block=num_reconstruct_block)
        network = EDVRMemory(
            PixWise, "add", position, with_pcd, num_feat=num_feat, num_reconstruct_block=num_reconstruct_block
        )
    theirs, ours = edvr.state_dict(), network.state_dict()
    matched = {name for name in ours if name in theirs and ours[name].shape == theirs[name].shape}
    num_new = 5 if position == "replace_tsa" else 6  # B, A, C, projection's weight and bias, the zero convolution
    num_tsa = sum(name.startswith("fusion.") for name in theirs)
    num_pyramid = sum(name.split(".")[0] in PYRAMID for name in theirs)
    assert num_tsa == 26 and len(theirs) - num_tsa - num_pyramid == 10 + 4 * (5 + num_reconstruct_block)
    assert len(ours) - len(matched) == num_new
    unexpected = (num_tsa if position == "replace_tsa" else 0) + (0 if with_pcd else num_pyramid)
    assert len(theirs) - len(matched) == unexpected
    assert all(name.startswith("fusion.") for name in ours if name not in matched)


def test_what_was_not_loaded_is_named(caplog):
    caplog.set_level("INFO", "vsr")
    weights = dict(build().state_dict())
    names = list(weights)
    for name in [name for name in names if name.startswith("fusion.")]:
        del weights[name]
    weights["conv_first.weight"] = torch.zeros(5, 3, 3, 3)
    weights |= {f"head{number}.{part}": torch.zeros(1) for number in range(6) for part in ("weight", "bias")}
    load_weights(build(), weights, Path("some.pth"), strict=False)
    num_missing = len(names) + 12 - len(weights)
    assert f"missing: fusion.* ({num_missing}); unexpected: head0.* (2), head1.* (2)" in caplog.text
    assert "head3.* (2) and 2 more; other shapes: conv_first.weight is (5, 3, 3, 3), here (8, 3, 3, 3)" in caplog.text
    assert f"{num_missing} missing, 12 unexpected, 1 of another shape" in caplog.text
    caplog.clear()
    load_weights(build(), build().state_dict(), Path("same.pth"))
    assert caplog.text.rstrip().endswith("0 unexpected")


def test_another_networks_weights_are_an_error():
    with pytest.raises(UserError, match=r"matches nothing in EDVRMemory \(.*missing: .*; unexpected: other\)"):
        load_weights(build(), {"other": torch.zeros(1)}, Path("other.pth"), strict=False)


def test_the_memory_is_asked_with_the_aligned_centre_frame():
    network = build(center_frame_idx=0).eval()
    asked = []
    network.memory_fusion.memory.register_forward_pre_hook(lambda _, arguments: asked.extend(arguments))
    network(window())
    query, sentences = asked
    assert sentences.shape == (2, 3, 8, 8, 12)
    assert torch.equal(query, sentences[:, 0])
    assert torch.equal(
        sentences, network.align([x.unflatten(0, (2, 3)) for x in network.extract(window().flatten(0, 1))])
    )


@pytest.mark.parametrize("with_pcd", [True, False])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("memory", [PixSim, partial(PixWise, crop=5, hops=2), PixSentence])
def test_features_computed_once_a_frame_give_the_windows_output(memory, position, with_pcd):
    network, lq = build(memory, memory_position=position, with_pcd=with_pcd).double().eval(), window(b=1).double()
    for parameter in network.memory_fusion.output.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        images = [lq[:, i].contiguous(memory_format=torch.channels_last) for i in range(3)]
        features = [torch.stack(parts, 1) for parts in zip(*map(network.frame_features, images), strict=True)]
        torch.testing.assert_close(network.from_features(features, lq[:, 1]), network(lq))


def test_without_pcd_the_pyramid_goes_and_any_size_fits():
    network = build(with_pcd=False)
    assert not [name for name, _ in network.named_parameters() if name.split(".")[0] in PYRAMID]
    assert network.spec.multiple == 1
    assert network(window(7, 9)).shape == (2, 3, 28, 36)
    assert build(with_pcd=False, memory_position="after_tsa").spec.multiple == 4
    assert build(with_pcd=False, with_predeblur=True).spec.multiple == 4
    assert build().spec.multiple == 4
    with pytest.raises(ValueError, match="multiples of 4, got 7×9"):
        build()(window(7, 9))


def test_deblurring_input_of_full_size():
    network = build(PixSim, hr_in=True, with_predeblur=True, with_pcd=False)
    assert network.spec.multiple == 16 and network.spec.scale == 1
    assert network(window(16, 32)).shape == (2, 3, 16, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": partial(PixWise, embed_channels=4)}, "embed_channels 4; make them equal, or use fusion: concat"),
        ({"memory": partial(PixWise, crop=4)}, "crop is 4"),
        ({"memory": partial(PixWise, crop=25)}, "larger than the map: on 8×12"),
        ({"memory": partial(PixSentence, crop=3)}, "pixsentence searches the whole frame"),
        ({"deformable_groups": 3}, "deformable_groups"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_concat_takes_any_width_of_embeddings():
    assert build(partial(PixWise, embed_channels=4), fusion="concat")(window()).shape == (2, 3, 32, 48)


def test_freezing_trains_the_memory_alone_around_a_pretrained_edvr(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clips = make_clips(tmp_path, num_clips=1, num_frames=5, gt_size=(48, 64))
    edvr = small_options(clips, name="edvr", train__total_iter=1)
    assert main(["-opt", str(write_options(tmp_path, edvr))]) == 0
    options = small_options(clips, name="memory", trainer="FreezeTrainer", train__total_iter=2)
    options["network_g"] |= {"type": "EDVRMemory", "memory": {"type": "pixwise", "crop": 3}}
    options["network_g"]["memory_position"] = "after_tsa"
    options["path"] = {"pretrain_network_g": "experiments/edvr/models/net_g_1.pth", "strict_load_g": False}
    assert main(["-opt", str(write_options(tmp_path, options))]) == 0
    before, after = weights(tmp_path, "edvr", 1)["params"], weights(tmp_path, "memory", 2)["params"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    new = after.keys() - before.keys()
    assert len(new) == 6 and all(name.startswith("fusion.memory_fusion.") for name in new)
    assert after["fusion.memory_fusion.output.weight"].abs().max() > 0
    log = (tmp_path / "experiments/memory/train.log").read_text()
    assert f"{len(before)} matched, 6 missing, 0 unexpected" in log
    again = {**options, "name": "again", "path": {"resume_state": "experiments/memory/training_states/2.state"}}
    assert main(["-opt", str(write_options(tmp_path, again)), "--resume_mode", "weights"]) == 0
    trained = weights(tmp_path, "again", 2)["params"]
    assert all(torch.equal(before[name], trained[name]) for name in before), "the same stays frozen"


def test_the_training_maps_follow_from_the_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = small_options(make_clips(tmp_path, num_clips=1, num_frames=5, gt_size=(48, 64)))
    options["network_g"] |= {"type": "EDVRMemory", "memory": {"type": "pixsim"}}
    loaded = config.load(write_options(tmp_path, options))
    assert loaded.resolved["network_g"]["map_size"] == [8, 8]
    assert "network_g.map_size: (8, 8) (from datasets.train.gt_size)" in loaded.changes
    network = loaded.network_g()
    assert network.memory_fusion.memory.tau.item() == 8.0  # √(8 · 8), of crops of 32 pixels
    options["network_g"]["map_size"] = [64, 64]
    loaded = config.load(write_options(tmp_path, options))  # it can be trained, and was by older versions
    assert any("network_g.map_size: [64, 64], but the maps of" in note for note in loaded.notes)
    options["network_g"]["memory"]["embedding"] = "fc"
    with pytest.raises(UserError, match=r"network_g\.map_size: \[64, 64\], but the maps of"):
        config.load(write_options(tmp_path, options))
