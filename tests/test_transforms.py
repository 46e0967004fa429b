import numpy as np
import pytest
import torch

from vsr.data.stream.augment import Augmentation, Crop, draw_augmentation, draw_crop, to_planes, to_unit_range


def test_augmentations_in_their_order():
    plane = np.array([[1, 2], [3, 4]])
    assert Augmentation(hflip=True)(plane).tolist() == [[2, 1], [4, 3]]
    assert Augmentation(vflip=True)(plane).tolist() == [[3, 4], [1, 2]]
    assert Augmentation(transpose=True)(plane).tolist() == [[1, 3], [2, 4]]
    # Flips come before the transposition: together they turn by 180 degrees, then mirror.
    assert Augmentation(hflip=True, transpose=True)(plane).tolist() == [[2, 4], [1, 3]]


def test_a_window_is_augmented_plane_by_plane():
    window = np.random.default_rng(0).integers(0, 256, (5, 3, 6, 4), dtype=np.uint8)
    for flags in np.ndindex(2, 2, 2):
        augment = Augmentation(*map(bool, flags))
        expected = np.stack([[augment(plane) for plane in frame] for frame in window])
        np.testing.assert_array_equal(augment(window), expected)


def test_all_eight_augmentations_are_drawn_equally_often():
    rng = np.random.default_rng(0)
    draws = [draw_augmentation(rng, True, True) for _ in range(4000)]
    counts = [draws.count(Augmentation(*map(bool, flags))) for flags in np.ndindex(2, 2, 2)]
    assert min(counts) > 400


@pytest.mark.parametrize(("use_hflip", "use_rot"), [(False, False), (True, False), (False, True)])
def test_switches_keep_their_augmentations_out(use_hflip, use_rot):
    rng = np.random.default_rng(0)
    draws = {draw_augmentation(rng, use_hflip, use_rot) for _ in range(100)}
    assert {draw.hflip for draw in draws} == ({True, False} if use_hflip else {False})
    assert {draw.vflip for draw in draws} == {draw.transpose for draw in draws}
    assert {draw.vflip for draw in draws} == ({True, False} if use_rot else {False})


def test_crops_reach_every_place_and_stay_inside():
    rng = np.random.default_rng(0)
    crops = {draw_crop(rng, (6, 5), 4) for _ in range(200)}
    assert crops == {Crop(top, left, 4, 4, (6, 5)) for top in range(3) for left in range(2)}
    assert draw_crop(rng, (4, 4), 4) == Crop(0, 0, 4, 4, (4, 4))


def test_crops_do_not_depend_on_the_switches():
    """So that turning an augmentation off leaves the rest of the samples as they were."""
    crops = []
    for switches in ((False, False), (True, True)):
        rng = np.random.default_rng(1)
        draw_augmentation(rng, *switches)
        crops.append(draw_crop(rng, (50, 50), 4))
    assert crops[0] == crops[1]


def test_scaled_crop_covers_the_same_place():
    assert Crop(3, 5, 16, 12).scaled(4) == Crop(12, 20, 64, 48)
    assert Crop(3, 5, 16, 12, (20, 30)).scaled(4) == Crop(12, 20, 64, 48, (80, 120))


def test_tensor_is_channels_first_in_0_to_1():
    frames = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)
    tensor = to_unit_range(to_planes(frames[:, ::-1]))
    assert tensor.shape == (5, 3, 6, 4)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    np.testing.assert_allclose(tensor.numpy(), frames[:, ::-1].transpose(0, 3, 1, 2) / 255, atol=1e-7)
