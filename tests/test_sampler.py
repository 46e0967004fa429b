from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsr.data import SampleKey, TrainSampler


def take(count, *args, **kwargs):
    return [key for _, key in islice(TrainSampler(*args, **kwargs), count)]


def test_each_epoch_visits_every_draw_once_in_another_order():
    keys = take(36, dataset_size=6, enlarge_ratio=2, seed=3)
    epochs = [[key.draw for key in keys[start : start + 12]] for start in (0, 12, 24)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [key.epoch for key in keys] == [0] * 12 + [1] * 12 + [2] * 12
    assert {key.seed for key in keys} == {3}


def test_only_an_epoch_that_is_not_enlarged_visits_every_item_before_any_again():
    assert len({key.draw % 100 for key in take(100, 100)}) == 100
    assert len({key.draw % 100 for key in take(100, 100, enlarge_ratio=200)}) == 60


def test_indices_are_those_of_the_items():
    assert all(index == key.draw % 6 for index, key in islice(TrainSampler(6, 3), 40))


def test_without_shuffle_draws_come_in_order():
    assert [key.draw for key in take(7, 3, shuffle=False)] == [0, 1, 2, 0, 1, 2, 0]


def test_seeds_differ():
    assert take(20, 20, seed=0) != take(20, 20, seed=1)
    assert take(20, 20, seed=1) == take(20, 20, seed=1)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 30), ratio=st.integers(1, 4), start=st.integers(0, 200), world=st.integers(1, 7))
def test_any_number_of_ranks_reads_the_same_stream_from_anywhere(size, ratio, start, world):
    stream = take(start + 5 * world, size, ratio, seed=7)
    ranks = [take(5, size, ratio, seed=7, start=start, rank=rank, world_size=world) for rank in range(world)]
    merged = [ranks[position % world][position // world] for position in range(5 * world)]
    assert merged == stream[start:]


def test_the_random_choices_of_a_key_depend_on_all_of_it_and_nothing_else():
    def numbers(key):
        return key.rng().integers(1 << 30, size=4).tolist()

    np.random.seed(0)
    first = numbers(SampleKey(5, 2, 1))
    np.random.seed(99)
    assert numbers(SampleKey(5, 2, 1)) == first
    others = [numbers(key) for key in (SampleKey(6, 2, 1), SampleKey(5, 3, 1), SampleKey(5, 2, 2), SampleKey(2, 5, 1))]
    assert first not in others


def test_the_stream_is_pinned():
    """A resumed run may be years older than the code: these numbers must never change."""
    assert [key.draw for key in take(6, 10, seed=0)] == [4, 6, 2, 7, 3, 5]
    assert SampleKey(3, 1, 0).rng().integers(1000, size=3).tolist() == [122, 890, 753]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset_size": 0}, "data set is empty"),
        ({"dataset_size": 3, "enlarge_ratio": 10**9}, "1000000000 is too large for 3 samples; choose at most 33333333"),
    ],
)
def test_wrong_numbers_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrainSampler(**arguments)
