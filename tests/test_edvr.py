"""EDVR: equality with the published network, sizes, and what its constructor refuses."""

import json
from pathlib import Path

import pytest
import torch
from edvr_cases import CASES, fill, frames, summary

from vsr.archs import EDVR
from vsr.contracts import HasFrameFeatures

PUBLISHED = json.loads((Path(__file__).parent / "data" / "edvr_published.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_equal_the_published_network(case):
    """The stored values were computed in float64 by data/make_edvr_published.py."""
    network = fill(EDVR(**CASES[case]).double())
    ours, published = summary(network, frames(CASES[case])), PUBLISHED[case]
    assert set(ours["names"]) == set(published["names"])
    torch.testing.assert_close(torch.tensor(ours["output"]), torch.tensor(published["output"]), rtol=1e-9, atol=1e-10)
    ours_by_name = dict(zip(ours["names"], ours["gradient_norms"], strict=True))
    for name, norm in zip(published["names"], published["gradient_norms"], strict=True):
        assert ours_by_name[name] == pytest.approx(norm, rel=1e-8, abs=1e-12), name


def test_the_defaults_are_edvr_m():
    assert sum(p.numel() for p in EDVR().parameters()) == 3_300_131  # 3.30 M in BasicSR's model zoo
    assert sum(p.numel() for p in EDVR(num_feat=128, num_reconstruct_block=40).parameters()) == 20_633_827


def test_a_new_network_returns_nearly_the_bilinear_base():
    lq = torch.rand(1, 5, 3, 16, 16)
    base = torch.nn.functional.interpolate(lq[:, 2], scale_factor=4, mode="bilinear", align_corners=False)
    assert (EDVR(num_feat=16)(lq) - base).abs().mean() < 0.2


def test_frames_are_aligned_alike_alone_and_in_a_batch():
    network = EDVR(num_feat=16, num_extract_block=1, num_reconstruct_block=1).double()
    lq = torch.rand(3, 5, 3, 16, 20, dtype=torch.float64)
    alone = torch.cat([network(window.unsqueeze(0)) for window in lq])
    torch.testing.assert_close(network(lq), alone)


def test_channels_last_changes_nothing():
    network = EDVR(num_feat=16, num_extract_block=1, num_reconstruct_block=1).double()
    lq = torch.rand(1, 5, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(network.to(memory_format=torch.channels_last)(lq), network(lq))


@pytest.mark.parametrize("scale", [2, 3])
def test_other_scales_have_the_published_names_but_one_shuffle(scale):
    options = {"num_feat": 16, "num_extract_block": 1, "num_reconstruct_block": 1}
    network, published = EDVR(scale=scale, **options), EDVR(**options)
    assert network.spec.scale == scale
    names = {name for name in published.state_dict() if not name.startswith("upconv2")}
    assert network.state_dict().keys() == names
    lq = torch.rand(1, 5, 3, 16, 20)
    sr = network(lq)
    assert sr.shape == (1, 3, 16 * scale, 20 * scale)
    base = torch.nn.functional.interpolate(lq[:, 2], scale_factor=scale, mode="bilinear", align_corners=False)
    assert (sr - base).abs().mean() < 0.2


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_features_computed_once_a_frame_give_the_windows_output(case, memory_format):
    network, lq = fill(EDVR(**CASES[case]).double()).eval(), frames(CASES[case])
    one_by_one = [network.frame_features(lq[:, i].contiguous(memory_format=memory_format)) for i in range(lq.shape[1])]
    features = [torch.stack(parts, 1) for parts in zip(*one_by_one, strict=True)]
    assert isinstance(network, HasFrameFeatures)
    with torch.no_grad():
        torch.testing.assert_close(network.from_features(features, lq[:, network.center_frame_idx]), network(lq))


def test_wrong_windows_are_refused_by_name():
    network = EDVR(num_feat=8, num_extract_block=1, num_reconstruct_block=1)
    with pytest.raises(ValueError, match="multiples of 4, got 18×16"):
        network(torch.rand(1, 5, 3, 18, 16))
    with pytest.raises(ValueError, match="num_frame 5, got a window of 3"):
        network(torch.rand(1, 3, 3, 16, 16))
    with pytest.raises(ValueError, match="multiples of 16"):
        EDVR(num_feat=8, hr_in=True, with_predeblur=True)(torch.rand(1, 5, 3, 40, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_feat": 20}, "num_feat 20 is not a multiple of deformable_groups 8"),
        ({"hr_in": True}, "with_predeblur"),
        ({"center_frame_idx": 5}, "center_frame_idx 5"),
        ({"scale": 1}, "scale 1 needs hr_in"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EDVR(**options)
