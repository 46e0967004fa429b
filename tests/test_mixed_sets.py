"""Training on a mix of data sets, as PyTorch's ConcatDataset and Subset make it."""

from itertools import islice

import numpy as np
import pytest
import torch
from reds_set import reds
from synthetic import make_clips
from torch.utils.data import ConcatDataset, Subset

from vsr.data import TrainSampler
from vsr.data.stream.loader import batches


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("reds"), num_clips=2, num_frames=8, gt_size=(64, 96))


MIXED = {
    "ConcatDataset": lambda dataset: ConcatDataset([dataset, dataset]),
    "Subset": lambda dataset: Subset(dataset, range(2, 14)),
}


def marks(stream, count):
    """Returns the frame and the pixels of each sample of the first batches."""
    return [
        (key, gt.numpy().tobytes(), lq.numpy().tobytes())
        for batch in islice(stream, count)
        for key, gt, lq in zip(batch["key"], batch["gt"], batch["lq"], strict=True)
    ]


@pytest.mark.parametrize("mix", MIXED)
def test_a_mix_of_data_sets_gives_other_crops_in_every_epoch(clips, mix):
    dataset = MIXED[mix](reds(clips, use_hflip=True, use_rot=True))
    size = len(dataset)
    epochs = [
        set(marks(batches(dataset, TrainSampler(size, start=start), 4), size // 4)) for start in (0, size, 2 * size)
    ]
    assert all(len(epoch) > 3 * size / 4 for epoch in epochs)
    assert len(epochs[0] & epochs[1]) < size / 4 and len(epochs[1] & epochs[2]) < size / 4


@pytest.mark.parametrize("mix", MIXED)
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_mix_of_data_sets_is_the_same_for_any_workers_and_after_a_stop(clips, mix):
    dataset = MIXED[mix](reds(clips, use_hflip=True, use_rot=True, random_reverse=True))
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()
    whole = marks(batches(dataset, TrainSampler(len(dataset), 2, seed=5), 3), 12)
    assert torch.equal(torch.get_rng_state(), state[0]) and np.random.get_state()[1].tolist() == state[1]
    assert marks(batches(dataset, TrainSampler(len(dataset), 2, seed=5), 3, num_workers=2), 12) == whole
    np.random.seed(99)
    resumed = batches(dataset, TrainSampler(len(dataset), 2, seed=5, start=15), 3)
    assert marks(resumed, 7) == whole[15:]
