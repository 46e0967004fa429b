"""The stream of training samples is the same, whoever reads it: any number of workers and processes, after any stop."""

import multiprocessing
import shutil
import sys
from itertools import islice
from multiprocessing.reduction import ForkingPickler

import cv2
import numpy as np
import pytest
import torch
from processes import fresh
from samples import sample_of, samples_of
from synthetic import make_clips, moving_texture

from preparation.meta_info import write_meta_info
from vsr.data import REDSDataset, TrainSampler, Vimeo90KDataset
from vsr.data.degrade.imresize import imresize
from vsr.data.lists.meta_info import ClipInfo
from vsr.data.stream import loader
from vsr.data.stream.loader import batches as loaded_batches
from vsr.data.stream.loader import to_device
from vsr.utils.errors import UserError

AUGMENTATIONS = {"use_hflip": True, "use_rot": True, "random_reverse": True}
BATCH, RATIO, SEED = 3, 2, 11


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("stream"), num_clips=2, num_frames=5, gt_size=(32, 48))


@pytest.fixture(scope="module")
def dataset(clips):
    options = {"gt_size": 16, "num_frame": 3, "interval_list": [1, 2], "val_partition": "none", **AUGMENTATIONS}
    return REDSDataset(clips.gt, clips.lq, clips.meta, **options)


def batches(dataset, count, workers=0, **position):
    sampler = TrainSampler(len(dataset), RATIO, SEED, **position)
    return list(islice(loaded_batches(dataset, sampler, BATCH, workers), count))


def fingerprints(batch):
    """Returns what identifies each sample of a batch."""
    pixels = torch.cat([batch["lq"].flatten(1), batch["gt"].flatten(1)], dim=1)
    return [(key, hash(row.numpy().tobytes())) for key, row in zip(batch["key"], pixels, strict=True)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 4])
def test_workers_change_nothing_across_epochs(dataset, workers):
    alone = batches(dataset, 15)  # 45 samples: two epochs of 20 and a part of the third
    together = batches(dataset, 15, workers)
    assert [fingerprints(batch) for batch in together] == [fingerprints(batch) for batch in alone]
    assert len({mark for batch in alone for mark in fingerprints(batch)}) > 35  # the samples do differ


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_each_global_step(dataset, world):
    steps = 6
    ranks = [batches(dataset, steps, rank=rank, world_size=world) for rank in range(world)]
    alone = [mark for batch in batches(dataset, steps * world) for mark in fingerprints(batch)]
    for step in range(steps):
        shared = [mark for rank in ranks for mark in fingerprints(rank[step])]
        assert sorted(shared) == sorted(alone[step * BATCH * world : (step + 1) * BATCH * world])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 5, 7])
def test_resume_neither_replays_nor_skips(dataset, done, workers):
    whole = [fingerprints(batch) for batch in batches(dataset, 12)]
    resumed = [fingerprints(batch) for batch in batches(dataset, 12 - done, workers, start=done * BATCH)]
    assert resumed == whole[done:]


def test_a_run_resumed_with_more_processes_goes_on_with_the_same_samples(dataset):
    whole = [mark for batch in batches(dataset, 10) for mark in fingerprints(batch)]
    ranks = [batches(dataset, 3, start=4 * BATCH, rank=rank, world_size=2) for rank in range(2)]
    resumed = sorted(mark for rank in ranks for batch in rank for mark in fingerprints(batch))
    assert resumed == sorted(whole[4 * BATCH :])


@pytest.mark.parametrize("workers", [0, 2])
def test_training_batches_travel_as_uint8_and_arrive_as_the_samples(dataset, workers):
    sampler = TrainSampler(len(dataset), RATIO, SEED)
    keys = iter(TrainSampler(len(dataset), RATIO, SEED))
    for batch in islice(loaded_batches(dataset, sampler, BATCH, workers), 4):
        assert batch["lq"].dtype == batch["gt"].dtype == torch.uint8
        arrived = to_device(batch, torch.device("cpu"))
        samples = samples_of(dataset, islice(keys, BATCH))
        assert arrived["key"] == [sample["key"] for sample in samples]
        for side in ("lq", "gt"):
            assert torch.equal(arrived[side], torch.stack([sample[side] for sample in samples]))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_a_batch_lies_in_the_workers_pipe_whole(dataset, monkeypatch):
    """The pipe is an attribute of torch's that may be renamed; then this fails."""
    sizes = []
    fcntl = loader.fcntl.fcntl
    monkeypatch.setattr(loader.fcntl, "fcntl", lambda *arguments: sizes.append(fcntl(*arguments)))
    next(loaded_batches(dataset, TrainSampler(len(dataset)), BATCH, 1))
    assert sizes == [1 << 20]


def test_workers_use_no_shared_memory(dataset, monkeypatch):
    """Where it is full, as it soon is in a container, PyTorch's loader waits for ever."""
    used = multiprocessing.Value("i", 0)
    reduce = ForkingPickler._extra_reducers[torch.Tensor]

    def count(tensor):
        used.value += 1
        return reduce(tensor)

    monkeypatch.setitem(ForkingPickler._extra_reducers, torch.Tensor, count)
    read = list(islice(loaded_batches(dataset, TrainSampler(len(dataset)), 2, num_workers=1), 4))
    assert all(isinstance(sample["lq"], torch.Tensor) for sample in read)
    assert used.value == 0


def test_a_bad_frame_in_a_worker_is_one_message(damaged):
    dataset = REDSDataset(*damaged, gt_size=16, num_frame=1, val_partition="none")
    with pytest.raises(UserError, match=r"000/00000002\.png is truncated"):
        list(islice(loaded_batches(dataset, TrainSampler(len(dataset), shuffle=False), 2, num_workers=1), 5))


@pytest.fixture
def damaged(clips, tmp_path):
    """A set with one truncated frame."""
    shutil.copytree(clips.meta.parent, tmp_path, dirs_exist_ok=True)
    bad = tmp_path / "train_sharp" / "000" / "00000002.png"
    bad.write_bytes(bad.read_bytes()[:80])
    return tmp_path / "train_sharp", tmp_path / "train_sharp_bicubic", tmp_path / "meta_info.txt"


def test_a_bad_frame_is_skipped_for_the_next_readable_draw_and_logged(damaged, caplog):
    options = {"gt_size": 16, "num_frame": 1, "val_partition": "none"}
    with pytest.raises(ValueError, match=r"000/00000002\.png is truncated"):
        REDSDataset(*damaged, **options)[2]
    skipping = REDSDataset(*damaged, **options, on_bad_frame="skip")
    sample, following = sample_of(skipping, 2, 1, 1), sample_of(skipping, 3, 1, 1)
    assert sample["key"] == "000/00000003"
    assert torch.equal(sample["gt"], following["gt"])
    assert sum("on_bad_frame: skip: " in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_skipped_frames_are_told_and_counted_whoever_met_them(damaged, caplog, workers):
    dataset = REDSDataset(*damaged, gt_size=16, num_frame=1, val_partition="none", on_bad_frame="skip")
    sampler = TrainSampler(len(dataset), shuffle=False)  # draws 2 and 12 are the truncated frame
    read = list(islice(loaded_batches(dataset, sampler, 5, workers), 4))
    assert [batch["key"][2] for batch in read] == ["000/00000003", "001/00000002"] * 2
    messages = [record.message for record in caplog.records if "on_bad_frame" in record.message]
    assert [message.rpartition("(")[2] for message in messages] == ["bad samples so far: 1)", "bad samples so far: 2)"]
    assert all("000/00000002.png is truncated" in message for message in messages)
    assert all(batch.keys() == {"lq", "gt", "key", "keys"} for batch in read)


@pytest.mark.parametrize("method", [fresh.get_start_method(), pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_that_are_not_forked_give_the_same_batches(dataset, method):
    def totals(workers):
        read = batches(dataset, 4, workers)
        return [(batch["key"], batch["lq"].sum().item(), batch["gt"].sum().item()) for batch in read]

    alone = totals(0)
    multiprocessing.set_start_method(method, force=True)
    try:
        assert totals(2) == alone
    finally:
        multiprocessing.set_start_method(None, force=True)


def test_a_set_of_bad_frames_only_is_an_error_even_when_skipping(damaged):
    for file in damaged[0].rglob("*.png"):
        file.write_bytes(file.read_bytes()[:80])
    dataset = REDSDataset(*damaged, gt_size=16, num_frame=1, val_partition="none", on_bad_frame="skip")
    with pytest.raises(ValueError, match="is truncated"):
        dataset[0]


@pytest.fixture
def septuplets(tmp_path):
    names = ["00001/0001", "00001/0002", "00002/0001"]
    for index, name in enumerate(names):
        for number, image in enumerate(moving_texture(7, (32, 48), index), start=1):
            for side, pixels in (("gt", image), ("lq", imresize(image, 0.25))):
                (tmp_path / side / name).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(tmp_path / side / name / f"im{number}.png"), pixels)
    write_meta_info(tmp_path / "meta.txt", [ClipInfo(name, 7, (32, 48, 3)) for name in names])
    return tmp_path / "gt", tmp_path / "lq", tmp_path / "meta.txt"


@pytest.mark.parametrize(("num_frame", "numbers"), [(7, range(1, 8)), (5, range(2, 7)), (1, [4])])
def test_vimeo_samples_are_around_im4(septuplets, num_frame, numbers):
    dataset = Vimeo90KDataset(*septuplets, gt_size=32, num_frame=num_frame)
    sample = sample_of(dataset, 1)
    assert sample["key"] == "00001/0002/im4"
    assert sample["lq"].shape == (num_frame, 3, 8, 8)

    def whole(side, number):
        return cv2.imread(str(septuplets[side] / "00001" / "0002" / f"im{number}.png"))[..., ::-1] / 255

    def columns(part, frame):  # the crop has the frame's full height: only its column is unknown
        part = part.numpy().transpose(1, 2, 0)
        return [
            x for x in range(frame.shape[1] - part.shape[1] + 1) if np.allclose(part, frame[:, x : x + part.shape[1]])
        ]

    (place,) = columns(sample["gt"][0], whole(0, 4))
    for lq, number in zip(sample["lq"], numbers, strict=True):
        assert columns(lq, whole(1, number)) == [place / 4]


def test_vimeo_stream_depends_on_the_key_alone(septuplets):
    first, second = (Vimeo90KDataset(*septuplets, gt_size=16, **AUGMENTATIONS) for _ in range(2))
    keys = list(islice(TrainSampler(3, 5, seed=1), 20))
    expected = samples_of(first, keys)
    for (_, key), sample in reversed(list(zip(keys, expected, strict=True))):
        assert torch.equal(sample_of(second, *key)["lq"], sample["lq"])
        assert torch.equal(sample_of(second, *key)["gt"], sample["gt"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frame": 9}, "num_frame 9 is more than the 7 frames"),
        ({"num_frame": 2}, "num_frame 2 is not odd"),
        ({"gt_size": 30}, "gt_size 30 is not a multiple of scale 4; nearest: 32"),
        ({"gt_size": 36}, "gt_size 36 is larger than the frames of clip '00001/0001', 32 x 48"),
        ({"scale": 2}, "GT is not 2 x LQ"),
    ],
)
def test_vimeo_options_that_do_not_fit_are_named(septuplets, options, message):
    with pytest.raises(ValueError, match=message):
        Vimeo90KDataset(*septuplets, **{"gt_size": 32, **options})


def test_missing_vimeo_sequences_say_how_to_get_them(septuplets):
    with pytest.raises(FileNotFoundError, match=r"dataroot_gt: .*toflow\.csail\.mit\.edu.*generate_lq"):
        Vimeo90KDataset("none", *septuplets[1:], gt_size=32)
    (septuplets[1] / "00002" / "0001" / "im4.png").unlink()
    with pytest.raises(FileNotFoundError, match="has no frame '00002/0001/im4'"):
        Vimeo90KDataset(*septuplets, gt_size=32)
