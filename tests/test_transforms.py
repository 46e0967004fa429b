"""Crops and flips: what a training set draws, and frames as tensors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vsr.contracts import SampleKey
from vsr.data.sets.crops import ClipCrops, CropOptions, TrainingClip
from vsr.data.stream.loader import to_planes, to_unit_range


class Noted:
    """A store of numbered pixels that notes the crops that it is asked for."""

    def __init__(self):
        self.root, self.crops = Path("store"), []

    def read(self, key, crop):
        self.crops.append(crop)
        pixels = np.arange(crop.height * crop.width).reshape(crop.height, crop.width, 1)
        return pixels.repeat(3, axis=2).astype(np.uint8)


def draw(count, size=(24, 20), gt_size=16, use_hflip=True, use_rot=True):
    """Returns the augmentations of draws, and the crops of GT and LQ."""
    gt, lq = Noted(), Noted()
    options = CropOptions(4, 1, gt_size, [1], False, use_hflip, use_rot, "error", "center")
    dataset = ClipCrops(gt, lq, [TrainingClip("a", ["0"], size)], np.zeros((1, 2), int), options)
    turns = [turns_of(dataset.read(0, SampleKey(number))) for number in range(count)]
    return turns, gt.crops, lq.crops


def turns_of(sample):
    """Returns whether a sample of a Noted store is mirrored horizontally, mirrored vertically, and then transposed."""
    found = []
    for side in ("lq", "gt"):
        size = sample[side].shape[-1]
        plain = np.arange(size * size).reshape(size, size)
        for hflip, vflip, transpose in np.ndindex(2, 2, 2):
            turned = plain[:: -1 if vflip else 1, :: -1 if hflip else 1]
            if np.array_equal(sample[side][0, 0], turned.T if transpose else turned):
                found.append((bool(hflip), bool(vflip), bool(transpose)))
    lq, gt = found
    assert lq == gt
    return gt


def test_all_eight_augmentations_are_drawn_equally_often():
    turns, _, _ = draw(2000)
    assert min(turns.count(tuple(map(bool, flags))) for flags in np.ndindex(2, 2, 2)) > 200


@pytest.mark.parametrize(("use_hflip", "use_rot"), [(False, False), (True, False), (False, True)])
def test_switches_keep_their_augmentations_out(use_hflip, use_rot):
    turns, _, _ = draw(100, use_hflip=use_hflip, use_rot=use_rot)
    hflip, vflip, transpose = map(set, zip(*turns, strict=True))
    assert hflip == ({True, False} if use_hflip else {False})
    assert vflip == transpose == ({True, False} if use_rot else {False})


def test_crops_reach_every_place_stay_inside_and_agree_on_both_sides():
    _, gt, lq = draw(200)
    assert set(lq) == {(top, left, 4, 4, (6, 5)) for top in range(3) for left in range(2)}
    assert [(4 * top, 4 * left, 16, 16, (24, 20)) for top, left, *_ in lq] == gt
    assert set(draw(5, size=(16, 16))[2]) == {(0, 0, 4, 4, (4, 4))}


def test_crops_do_not_depend_on_the_switches():
    """So that turning an augmentation off leaves the rest of the samples as they were."""
    assert draw(20, use_hflip=False, use_rot=False)[1:] == draw(20)[1:]


def test_tensor_is_channels_first_in_0_to_1():
    frames = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)
    tensor = to_unit_range(to_planes(frames[:, ::-1]))
    assert tensor.shape == (5, 3, 6, 4)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    np.testing.assert_allclose(tensor.numpy(), frames[:, ::-1].transpose(0, 3, 1, 2) / 255, atol=1e-7)
