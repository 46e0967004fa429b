"""Cuts of a film: found while it is decoded, and nowhere else."""

from itertools import islice

import numpy as np
import pytest

from vsr.data.video.cuts import scene_cuts


def shot(seed, length, motion=1, size=(45, 80)):
    """A pattern of waves that moves to the right by ``motion`` pixels a frame."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    level, fx, fy, phase = rng.uniform(40, 200), *rng.uniform(0.05, 0.4, 2), rng.uniform(0, 6)
    waves = [level + 50 * np.sin(fx * (x - motion * t) + phase) * np.cos(fy * y) for t in range(length)]
    noise = rng.normal(0, 3, (length, *size))
    return (np.stack(waves) + noise).clip(0, 255).astype(np.uint8)


def test_the_first_frame_of_each_further_shot_is_found():
    shots = [shot(seed, length, motion) for seed, length, motion in ((0, 20, 1), (1, 3, 0), (2, 30, 4), (3, 9, 2))]
    assert list(scene_cuts(np.concatenate(shots))) == [20, 23, 53]


@pytest.mark.parametrize("length", [1, 2, 3, 40])
def test_one_shot_has_none(length):
    assert list(scene_cuts(shot(0, length))) == []


def test_no_frames_have_none():
    assert list(scene_cuts([])) == []


def test_a_cut_at_either_end_is_found():
    film = np.concatenate([shot(0, 1), shot(1, 20), shot(2, 1)])
    assert list(scene_cuts(film)) == [1, 21]


def test_flashes_fades_and_fast_motion_are_no_cuts():
    for length in (1, 2):
        flash = shot(0, 20)
        flash[9 : 9 + length] = 255
        assert list(scene_cuts(flash)) == []
    fade = (shot(1, 30) * np.linspace(1, 0, 30)[:, None, None]).astype(np.uint8)
    assert list(scene_cuts(fade)) == []
    assert list(scene_cuts(shot(2, 30, motion=15))) == []


def test_a_cut_is_known_two_frames_later():
    film = np.concatenate([shot(0, 20), shot(1, 1000)])
    taken = []
    frames = (taken.append(index) or frame for index, frame in enumerate(film))
    assert list(islice(scene_cuts(frames), 1)) == [20] and taken[-1] == 22


def test_frames_may_have_colours():
    film = np.concatenate([shot(0, 8), shot(1, 8)])
    assert list(scene_cuts(np.stack([film] * 3, -1))) == [8]
