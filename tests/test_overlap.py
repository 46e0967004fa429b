"""At the default overlap, tiles and segments change restored frames by little."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

from vsr.archs import EDVR
from vsr.config.options import ValOptions
from vsr.contracts import Clip, Spec
from vsr.evaluation.plan import calls_of, with_precision
from vsr.evaluation.restore import restore, steps_of
from vsr.evaluation.restoring.calls import OVERLAP, TILE_OVERLAP
from vsr.utils.errors import UserError

CPU = torch.device("cpu")


class BothDirections(nn.Module):
    """A recurrent network that reads a clip forwards and backwards."""

    def __init__(self):
        super().__init__()
        self.spec = Spec(reads="clip", scale=4)
        self.conv, self.last = nn.Conv2d(3 + 8, 8, 3, padding=1), nn.Conv2d(8, 48, 3, padding=1)

    def one_way(self, lq):
        feature, frames = lq.new_zeros(1, 8, *lq.shape[-2:]), []
        for frame in lq.unbind(1):
            feature = self.conv(torch.cat([frame, feature], 1)).relu()
            frames.append(nn.functional.pixel_shuffle(self.last(feature), 4))
        return torch.stack(frames, 1)

    def forward(self, lq):
        return (self.one_way(lq) + self.one_way(lq.flip(1)).flip(1)) / 2 + 0.5


def moving_clip(length, size):
    """Textures that move by a pixel a frame."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (size[0] // 4, (size[1] + length) // 4 + 1, 3)).astype(np.uint8)
    wide = wide.repeat(4, 0).repeat(4, 1)
    frames = [wide[:, index : index + size[1]] for index in range(length)]
    return Clip("000", tuple(map(str, range(length))), frames.__getitem__, None, range(length))


def errors(network, clip, steps, **options):
    """Returns how many levels each pixel of the clip differs from its restoration as a whole."""
    whole = restore(network, steps_of(network.spec, [clip]), CPU)
    parts = restore(network, steps, CPU, **options)
    return np.stack([np.abs(a.sr.astype(int) - b.sr) for a, b in zip(parts, whole, strict=True)])


def test_tiles_of_edvr_change_a_pixel_by_a_level():
    torch.manual_seed(0)
    network = EDVR(num_feat=8, num_extract_block=1, num_reconstruct_block=2, deformable_groups=2).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("conv_offset.weight"):
            nn.init.normal_(parameter, std=0.05)
    network.conv_last.weight.data.mul_(20)  # a new network adds little to its bilinear base
    clip = moving_clip(5, (96, 96))._replace(targets=range(2, 3))
    steps = list(steps_of(network.spec, [clip]))
    default = errors(network, clip, steps, tile=64)  # tiles that share exactly the overlap
    none = errors(network, clip, steps, tile=48, tile_overlap=0)
    assert default.max() <= 1 and none.max() > 2, (default.max(), default.mean(), none.max())


def test_segments_of_a_recurrent_network_change_a_pixel_by_a_level():
    torch.manual_seed(0)
    network, clip = BothDirections().eval(), moving_clip(30, (16, 20))
    default = errors(network, clip, steps_of(network.spec, [clip], chunk=10))
    assert default.max() <= 1
    none = errors(network, clip, steps_of(network.spec, [clip], chunk=10, warm_up=0, look_ahead=0))
    assert none[9:11].max() > 1 and none[4:6].max() <= default.max() + 1


def test_a_tile_that_is_not_larger_than_the_overlap_is_a_mistake_of_the_options():
    with pytest.raises(ValueError, match="tile: 32 has to be larger than tile_overlap, 32"):
        ValOptions(tile=32)


def test_a_precision_that_the_device_lacks_is_refused_before_training():
    with pytest.raises(UserError, match="precision fp16 needs a GPU"):
        with_precision(ValOptions(precision="fp16"), CPU)
    assert calls_of(ValOptions(tile=64)) == {"precision": "float32", "tile": 64, "tile_overlap": 32}


def test_the_defaults_of_the_options_are_those_of_restoration():
    val = ValOptions()
    assert (val.tile_overlap, val.warm_up, val.look_ahead) == (TILE_OVERLAP, OVERLAP, OVERLAP)
    default = inspect.signature(restore).parameters["tile_overlap"].default
    assert default == TILE_OVERLAP and val.precision == "float32"
