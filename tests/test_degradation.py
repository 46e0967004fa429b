"""On-the-fly degradation: LQ frames are made of GT frames, and are the same after resuming."""

import signal

import numpy as np
import pytest
import torch
from samples import sample_of
from training import assert_same_weights, log_of, rows, small_options, start, stop_at, weights, write_options

from vsr import train as entry
from vsr.contracts import DataSpec
from vsr.data import REDSDataset, SampleKey
from vsr.data.degrade.apply import degradation_problem, degraded
from vsr.data.degrade.imresize import bicubic
from vsr.utils.errors import UserError

NOISY = '''
from typing import Annotated
import numpy as np
import torch
from torch import Tensor
from vsr.registry import Shared, register

Scale = Annotated[int, Shared("scale")]


@register("degradation")
def noisy(gt: Tensor, rng: np.random.Generator, /, scale: Scale = 4, sigma: float = 0.1) -> Tensor:
    """Averages and adds noise."""
    lq = torch.nn.functional.avg_pool2d(gt, scale)
    noise = rng.normal(scale=sigma * rng.random(), size=lq.shape).astype(np.float32)
    return (lq + torch.from_numpy(noise).to(gt)).clamp(0, 1)
'''


def noisy(gt, rng):
    return gt[..., ::4, ::4] + torch.from_numpy(rng.standard_normal((1, 1, 1, 1), np.float32))


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder that holds a degradation of one's own."""
    (tmp_path / "my_noise.py").write_text(NOISY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def options(clips, **changes):
    own = {"imports": ["my_noise"], "datasets__train__degradation": {"type": "noisy", "sigma": 0.2}}
    own |= {"datasets__train__gt_frames": "all", "datasets__train__dataroot_lq": None, "datasets__val": None}
    return small_options(clips, **{**own, **changes})


def test_bicubic_makes_the_frames_that_the_files_hold(clips):
    shared = {"gt_size": 48, "num_frame": 3, "val_partition": "none", "gt_frames": "all"}
    dataset = REDSDataset(clips.gt, clips.lq, clips.meta, **shared)
    for draw in range(4):
        sample = sample_of(dataset, draw)
        lq = bicubic(sample["gt"], np.random.default_rng(0), scale=4)
        assert lq.shape == sample["lq"].shape
        assert torch.equal(lq[..., 3:-3], sample["lq"][..., 3:-3])  # the crop has the frame's height, not its width


def test_lq_depends_on_the_key_of_its_sample_alone():
    gt = torch.rand(3, 2, 3, 8, 8)
    keys = torch.tensor([SampleKey(4, 1, 9), SampleKey(5, 1, 9), SampleKey(4, 2, 9)])
    lq = degraded({"gt": gt}, keys, noisy)["lq"]
    assert lq.shape == (3, 2, 3, 2, 2)
    shifts = (lq - gt[..., ::4, ::4]).flatten(1)[:, 0].tolist()
    assert len(set(shifts)) == 3
    again = degraded({"gt": gt[1:2]}, keys[1:2], noisy)["lq"]
    assert torch.equal(again[0], lq[1])
    assert not np.isclose(shifts[0], SampleKey(4, 1, 9).rng().standard_normal(1, np.float32), atol=1e-4)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_training_with_noise_resumes_bit_for_bit(work, clips, workers):
    own = {"datasets__train__num_worker_per_gpu": workers, "train__total_iter": 8, "logger__save_checkpoint_freq": 3}
    assert entry.main(["-opt", str(write_options(work, options(clips, name="whole", **own)))]) == 0
    file = write_options(work, options(clips, name="killed", **own))
    code, seen = stop_at(start(work, file), " iter 5/8 ", signal.SIGKILL)
    assert code == -signal.SIGKILL, seen
    assert not (work / "experiments" / "killed" / "models" / "net_g_8.pth").exists()
    assert entry.main(["-opt", str(file), "--auto_resume"]) == 0
    assert "resumed from" in log_of(work, "killed")
    assert rows(work, "killed") == rows(work, "whole")
    assert_same_weights(weights(work, "killed", 8), weights(work, "whole", 8))


def test_another_degradation_is_another_training(work, clips):
    for name, sigma in (("one", 0.2), ("two", 0.3)):
        changes = {"train__total_iter": 2, "datasets__train__degradation": {"type": "noisy", "sigma": sigma}}
        entry.main(["-opt", str(write_options(work, options(clips, name=name, **changes)))])
    assert rows(work, "one") != rows(work, "two")
    file = write_options(work, options(clips, name="one", train__total_iter=4, datasets__train__degradation=None))
    with pytest.raises(UserError, match=r"dataroot_lq: ~, so that there are no LQ frames"):
        entry.main(["-opt", str(file), "--auto_resume"])
    changes = {"train__total_iter": 4, "datasets__train__degradation": {"type": "bicubic"}}
    with pytest.raises(UserError, match=r"datasets.train.degradation.type: 'noisy' → 'bicubic'"):
        entry.main(["-opt", str(write_options(work, options(clips, name="one", **changes))), "--auto_resume"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gt_frames": "center", "dataroot_lq": "LQ"}, "datasets.train.gt_frames: center, but degradation makes every"),
        ({"gt_frames": "center"}, "dataroot_lq: ~, .*: set gt_frames: all"),
        ({"degradation": None}, "datasets.train.dataroot_lq: ~, so that there are no LQ frames: name their folder"),
        ({"degradation": {"type": "nosy"}}, "unknown degradation 'nosy'; did you mean 'noisy'"),
        ({"degradation": {"type": "noisy", "sigmas": 1}}, "degradation.sigmas: unknown key; did you mean 'sigma'"),
    ],
)
def test_options_that_do_not_fit_are_one_message(work, clips, changes, message):
    changes = {f"datasets__train__{key}": str(clips.lq) if value == "LQ" else value for key, value in changes.items()}
    file = write_options(work, options(clips, **changes))
    with pytest.raises(UserError, match=message):
        entry.main(["-opt", str(file), "--check"])


def test_frames_of_another_shape_are_named():
    keys = torch.tensor([SampleKey(0)])
    with pytest.raises(UserError, match=r"returns \(3, 8, 8\) for GT frames \(2, 3, 8, 8\); expected a tensor"):
        degraded({"gt": torch.rand(1, 2, 3, 8, 8)}, keys, lambda gt, rng: gt[0])
    with pytest.raises(UserError, match="returns ndarray for"):
        degraded({"gt": torch.rand(1, 2, 3, 8, 8)}, keys, lambda gt, rng: gt.numpy())
    with pytest.raises(UserError, match=r"needs gt of \(t, 3, H, W\) per sample, got \(3, 8, 8\)"):
        degraded({"gt": torch.rand(1, 3, 8, 8)}, keys, noisy)


def test_a_training_set_that_says_nothing_is_left_to_its_first_batch():
    assert degradation_problem(DataSpec(), True) is None
    assert degradation_problem(DataSpec(), False) is None
