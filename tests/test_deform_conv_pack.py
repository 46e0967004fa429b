"""The layer that predicts its own offsets and masks."""

import pytest
import torch
from deform_conv_cases import oracle
from torch.nn import functional as F

from vsr.ops import ModulatedDeformConvPack
from vsr.ops.deform_conv import pack as pack_module


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


@pytest.mark.parametrize("pixels", [1, 16, 64])
def test_offsets_in_16_bits_are_off_by_a_small_part_of_their_size(pixels, monkeypatch):
    monkeypatch.setattr(pack_module, "HAS_AMX", True)  # which have them
    torch.manual_seed(pixels)
    pack = ModulatedDeformConvPack(16, 8, 3, padding=1, deformable_groups=4)
    torch.nn.init.normal_(pack.conv_offset.weight, std=pixels / 12)  # the offsets' standard deviation is `pixels`
    feature = torch.randn(1, 16, 20, 20).bfloat16().float()
    with torch.no_grad():
        exact, exact_mask = pack.predict(feature)
        with torch.autocast("cpu", torch.bfloat16):
            offset, mask = pack.predict(feature)
    assert exact.abs().mean() > 0.5 * pixels
    # a number of bfloat16 is off by at most 1/512 of itself; the weights' rounding adds as much of a typical offset
    assert ((offset.float() - exact).abs() <= exact.abs() / 400 + 0.01 * pixels).all()
    assert (offset.float() - exact).abs().mean() < 0.003 * pixels
    assert (mask.float() - exact_mask).abs().max() < 0.005 * pixels


def test_without_amx_offsets_are_those_of_float32(monkeypatch):
    monkeypatch.setattr(pack_module, "HAS_AMX", False)
    pack = ModulatedDeformConvPack(64, 64, 3, padding=1, deformable_groups=8)
    torch.nn.init.normal_(pack.conv_offset.weight)
    feature = torch.randn(1, 64, 20, 20).bfloat16()
    with torch.no_grad():
        expected = pack.predict(feature.float())
        with torch.autocast("cpu", torch.bfloat16):
            got = pack.predict(feature)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


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
