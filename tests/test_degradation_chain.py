"""The chain of RealBasicVSR: its options, its order, its reproducibility, and trainings with it."""

import signal
import subprocess
import sys
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from training import assert_same_weights, rows, small_options, start, stop_at, weights, write_options

from vsr import config
from vsr import train as entry
from vsr.config.schema import Report, check_component, resolved
from vsr.contracts import SampleKey
from vsr.data.degrade.apply import degraded, degraded_sample
from vsr.data.degrade.chain import PUBLISHED, Sharpening, in_random_order, realbasicvsr, sometimes
from vsr.data.degrade.filters import unsharp_mask
from vsr.data.sets.recurrent import REDSRecurrentDataset
from vsr.data.stream.loader import batches, to_device
from vsr.data.stream.sampler import TrainSampler
from vsr.utils.errors import UserError

RANDOM = np.random.default_rng
STEP = {"type": "resize_to_lq"}


def clip(t=4, size=(64, 80)):
    """A clip of random squares that move, (t, 3, h, w) uint8."""
    small = RANDOM(0).integers(0, 256, (3, size[0] // 8, size[1] // 8), np.uint8)
    large = small.repeat(8, 1).repeat(8, 2)
    return np.stack([np.roll(large, number, 2) for number in range(t)])


def recurrent(clips, **options):
    given = {"num_frame": 3, "gt_size": 32, "flip_sequence": True, "use_rot": True, **options}
    return REDSRecurrentDataset(str(clips.gt), None, str(clips.meta), "none", **given)


def test_a_sample_has_sharpened_gt_and_the_original_beside_it():
    sample = {"gt": clip(), "key": "000/00000000"}
    made = degraded_sample(sample, SampleKey(3, 1, 9), realbasicvsr)
    assert made["lq"].shape == (4, 3, 16, 20) and made["gt"].shape == (4, 3, 64, 80)
    assert made["gt_original"] is sample["gt"]
    sharp = unsharp_mask((sample["gt"][2].transpose(1, 2, 0) / 255).astype(np.float32))
    assert made["gt"][2].transpose(1, 2, 0) == pytest.approx(sharp, abs=1e-6)
    for name in ("lq", "gt"):
        assert made[name].dtype == np.float32 and made[name].min() >= 0 and made[name].max() <= 1
    assert np.array_equal(made["lq"], np.rint(made["lq"] * 255).astype(np.float32) / np.float32(255))
    assert np.abs(made["lq"] - sample["gt"][..., ::4, ::4] / 255).mean() > 0.01


def test_without_sharpening_the_gt_stays_as_it_is():
    made = degraded_sample({"gt": clip()}, SampleKey(0), partial(realbasicvsr, sharpen=None))
    assert np.array_equal(made["gt"], clip()) and "gt_original" not in made


def test_batches_on_the_device_are_those_of_the_loader(clips):
    dataset, draws = recurrent(clips), TrainSampler(20, seed=5)
    cpu = torch.device("cpu")
    loaded = to_device(next(batches(dataset, draws, 2, degradation=realbasicvsr)), cpu)
    batch = to_device(next(batches(dataset, draws, 2)), cpu)
    made = degraded(batch, batch["keys"], realbasicvsr)
    assert set(made) == set(loaded) >= {"lq", "gt", "gt_original"}
    for name in ("lq", "gt", "gt_original"):
        assert torch.equal(made[name], loaded[name]), name


@pytest.mark.parametrize("workers", [1, 2])
def test_samples_follow_from_their_keys_whoever_reads_them(clips, workers):
    def read(num_workers):
        stream = batches(recurrent(clips), TrainSampler(20, seed=5), 2, num_workers, degradation=realbasicvsr)
        return torch.stack([batch["lq"] for batch in islice(stream, 4)])

    alone = read(0)
    assert torch.equal(alone, read(workers))
    assert len({sample.numpy().tobytes() for sample in alone.flatten(0, 1)}) == 8


SUMS = """
import zlib
import numpy as np
from vsr.contracts import SampleKey
from vsr.data.degrade.apply import degraded_sample
from vsr.data.degrade.chain import realbasicvsr

gt = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 10), np.uint8).repeat(8, 2).repeat(8, 3)
sums = [zlib.crc32(degraded_sample({"gt": gt}, SampleKey(draw), realbasicvsr)["lq"]) for draw in range(12)]
"""


def test_another_process_makes_the_same_bytes():
    code = SUMS + "print(sums)"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    here: dict = {}
    exec(SUMS, here)
    assert there.stdout.split() == str(here["sums"]).split(), there.stderr
    assert len(set(here["sums"])) == 12


def test_a_mirrored_clip_is_degraded_after_it_is_mirrored(clips):
    (batch,) = islice(batches(recurrent(clips), TrainSampler(20, seed=5), 1, degradation=realbasicvsr), 1)
    assert torch.equal(batch["gt_original"], batch["gt_original"].flip(1))
    assert not torch.equal(batch["lq"], batch["lq"].flip(1))


def test_groups_are_taken_in_both_orders_and_stay_together():
    def mark(letter):
        return lambda frames, rng, lq_size: [*frames, np.array(letter)]

    groups = [[mark("a")], [mark("b"), mark("c")]]
    seen = {"".join(map(str, in_random_order([], RANDOM(seed), (1, 1), groups))) for seed in range(20)}
    assert seen == {"abc", "bca"}
    taken = [len(sometimes([], RANDOM(seed), (1, 1), 0.8, [mark("a")])) for seed in range(500)]
    assert sum(taken) == pytest.approx(400, abs=40)


def test_the_published_chain_is_the_one_in_the_manual():
    text = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
    written = yaml.safe_load(text.partition("```yaml\n# the published chain\n")[2].partition("```")[0])
    report = Report()
    built = check_component(written["degradation"], "degradation", "degradation", report)
    assert not report.mistakes
    assert resolved(built)["steps"] == resolved(PUBLISHED)
    assert resolved(built)["sharpen"] == resolved(Sharpening())


def options(clips, **changes):
    own = {"datasets__train__type": "REDSRecurrentDataset", "datasets__train__dataroot_lq": None}
    own |= {"network_g": {"type": "RecurrentNetwork"}, "imports": ["recurrent_network"], "datasets__val": None}
    own |= {"datasets__train__degradation": {"type": "realbasicvsr"}}
    return small_options(clips, **{**own, **changes})


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])
    return tmp_path


@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_training_with_the_chain_resumes_bit_for_bit(work, clips, workers):
    own = {"datasets__train__num_worker_per_gpu": workers, "train__total_iter": 6, "logger__save_checkpoint_freq": 3}
    assert entry.main(["-opt", str(write_options(work, options(clips, name="whole", **own)))]) == 0
    file = write_options(work, options(clips, name="killed", **own))
    code, seen = stop_at(start(work, file), " iter 4/6 ", signal.SIGKILL)
    assert code == -signal.SIGKILL, seen
    assert entry.main(["-opt", str(file), "--auto_resume"]) == 0
    assert rows(work, "killed") == rows(work, "whole")
    assert_same_weights(weights(work, "killed", 6), weights(work, "whole", 6))


@pytest.mark.parametrize(
    ("degradation", "message"),
    [
        ({"sharpen": {"kernel_size": 50}}, "sharpen.kernel_size: 50 is even; the side of a kernel is odd, such as 51"),
        ({"steps": [{"type": "blurr"}]}, "steps[0].type: unknown degradation_step 'blurr'; did you mean 'blur'?"),
        ({"steps": [STEP, {"type": "blur", "kernel": {}}]}, "steps[1].kernel: unknown key; did you mean 'kernels'?"),
        ({"steps": [{"type": "blur", "kernels": {"sync": 1}}]}, "steps[0].kernels.sync: unknown key; did you mean"),
        ({"steps": [{"type": "blur", "kernels": {}}]}, "steps[0].kernels: every weight is 0; give one of iso, aniso,"),
        ({"steps": [{"type": "blur", "kernels": {"iso": -1}}]}, "kernels.iso: expected a number of at least 0, got -1"),
        ({"steps": [{"type": "blur", "size": {"low": 6, "high": 9}}]}, "steps[0].size.low: 6 is even; the side of a"),
        ({"steps": [{"type": "blur", "sigma": {"low": 3, "high": 1}}]}, "sigma.low: 3 is larger than high, 1"),
        ({"steps": [{"type": "blur", "sigma": {"low": 0, "high": 1}}]}, "sigma.low: 0 is not above 0"),
        ({"steps": [{"type": "blur", "sigma": 3}]}, "steps[0].sigma: expected a mapping of keys, got 3"),
        ({"steps": [{"type": "jpeg", "quality": {"low": 30, "high": 120}}]}, "quality.high: 120 is more than 100"),
        ({"steps": [{"type": "video_compression", "codecs": {"h265": 1}}]}, "codecs.h265: unknown key"),
        (
            {"steps": [{"type": "video_compression", "bits_per_frame": {"low": 9, "high": 99}}]},
            "low: 9 is less than 1000",
        ),
        ({"steps": [{"type": "sometimes", "steps": [STEP]}]}, "steps[0].probability: missing"),
        ({"steps": [{"type": "sometimes", "probability": 2, "steps": []}]}, "probability: expected a number of at le"),
        ({"steps": STEP}, "steps: expected a list, got a mapping"),
    ],
)
def test_options_that_do_not_fit_are_one_message(work, clips, degradation, message):
    file = write_options(work, options(clips, datasets__train__degradation={"type": "realbasicvsr", **degradation}))
    with pytest.raises(UserError) as error:
        entry.main(["-opt", str(file), "--check"])
    assert str(error.value).count("\n") <= 1 and f"{message}" in str(error.value)


def test_a_chain_that_ends_with_another_size_is_one_message(work, clips):
    steps = {"type": "realbasicvsr", "steps": [{"type": "jpeg"}]}
    file = write_options(
        work, options(clips, datasets__train__degradation=steps, datasets__train__num_worker_per_gpu=1)
    )
    message = r"degradation.steps: the last step leaves frames of 32 x 32; LQ has 8 x 8: add {type: resize_to_lq}"
    with pytest.raises(UserError, match=message):
        entry.main(["-opt", str(file)])


def test_films_are_degraded(work, clips):
    from test_video_folder import film

    (work / "films").mkdir()
    film(work / "films" / "a.mkv")
    train = {"type": "VideoFolderDataset", "dataroot": "films", "num_frame": 3, "gt_size": 32, "gt_frames": "all"}
    train |= {"degradation": {"type": "realbasicvsr"}, "num_worker_per_gpu": 0}
    file = write_options(work, options(clips, datasets__train=train))
    loaded = config.load(str(file), need="train").datasets["train"]
    (batch,) = islice(batches(loaded.data, TrainSampler(7), 1, degradation=loaded.loader.degradation_on("loader")), 1)
    assert batch["lq"].shape == (1, 3, 3, 8, 8) and batch["gt"].shape == batch["gt_original"].shape == (1, 3, 3, 32, 32)
