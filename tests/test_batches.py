"""Batches on their way to a network: they do not depend on who reads them ahead."""

import os
import re
import subprocess
import sys
import time
from itertools import islice

import pytest
import torch
from training import assert_same_weights, rows, small_options, weights, write_options

from vsr.config.options import LoaderOptions
from vsr.data import REDSDataset, TrainSampler
from vsr.data.stream.loader import batches, copied_ahead, prefetched, to_device
from vsr.train import main

CPU = torch.device("cpu")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def dataset(clips):
    options = {"num_frame": 3, "gt_size": 32, "use_hflip": True, "use_rot": True, "val_partition": "none"}
    return REDSDataset(clips.gt, clips.lq, clips.meta, **options)


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda options, *arguments: main(["-opt", str(write_options(tmp_path, options)), *arguments])


def stream(dataset, workers=0, **options):
    return batches(dataset, TrainSampler(len(dataset), seed=3), 4, workers, **options)


def assert_same_batches(first, second):
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys() == {"lq", "gt", "key", "keys"}
        assert one["key"] == other["key"]
        for side in ("lq", "gt"):
            assert one[side].dtype == other[side].dtype == torch.float32
            assert other[side].is_contiguous()
            assert torch.equal(one[side].cpu(), other[side].cpu())


def on(device, batches, number=8):
    return [to_device(batch, device) for batch in islice(batches, number)]


def test_a_batch_that_has_arrived_stays_as_it_is(dataset):
    arrived = to_device(next(stream(dataset)), CPU)
    again = to_device(arrived, CPU)
    assert all(again[name] is arrived[name] for name in arrived)


# reading ahead --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mode", [None, "cpu", "cuda"])
def test_the_same_batches_come_in_every_mode(dataset, mode, workers):
    assert_same_batches(on(CPU, stream(dataset)), on(CPU, prefetched(stream(dataset, workers), mode, CPU)))


def test_copying_ahead_needs_a_gpu_and_says_so_once(caplog):
    source = iter([{"a": 1}])
    with caplog.at_level("INFO", logger="vsr"):
        assert prefetched(source, "cuda", CPU) is source
    (record,) = caplog.records
    assert record.message == "prefetch_mode: cuda has no effect, since training runs on the CPU"


# copying ahead: the order of what is asked of the GPU, here one that only notes it -----------------------------------


class FakeStream:
    def __init__(self, notes, name):
        self.notes, self.name = notes, name

    def record_event(self):
        self.notes.append("copied")
        return len(self.notes)

    def wait_event(self, event):
        self.notes.append(f"{self.name} waits for event {event}")

    def __enter__(self):
        self.notes.append(f"enter {self.name}")

    def __exit__(self, *_):
        self.notes.append(f"leave {self.name}")


@pytest.fixture
def notes(monkeypatch):
    notes = []
    current = FakeStream(notes, "current")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeStream(notes, "side"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current)
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda self, s: notes.append(f"kept for {s.name}"), raising=False
    )
    return notes


def test_the_next_batch_is_copied_before_the_present_one_is_given(notes):
    source = ({"x": torch.tensor([n], dtype=torch.uint8), "key": [str(n)]} for n in range(3))
    copying = ["enter side", "copied", "leave side"]
    ahead = copied_ahead(source, CPU)
    assert next(ahead)["key"] == ["0"]
    assert notes == [*copying, *copying, "current waits for event 2", "kept for current"]
    notes.clear()
    assert next(ahead)["key"] == ["1"]
    # not for the copy of batch 2, whose event is the newer one
    assert notes == [*copying, "current waits for event 5", "kept for current"]
    notes.clear()
    last = next(ahead)
    assert last["key"] == ["2"]
    assert last["x"].dtype == torch.float32
    assert notes == ["current waits for event 2", "kept for current"]
    assert list(ahead) == []


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_copied_ahead_are_those_of_the_cpu(dataset, workers):
    device = torch.device("cuda")
    source = stream(dataset, workers, pin_memory=True)
    copies = []
    for batch in islice(copied_ahead(source, device), 8):
        torch.cuda._sleep(50_000_000)  # so that the next copies are made while this batch is still to be read
        copies.append({name: value.clone() if name != "key" else value for name, value in batch.items()})
        del batch
    assert_same_batches(on(CPU, stream(dataset)), copies)


@pytest.mark.gpu
@gpu
def test_pinned_batches_are_pinned_by_the_thread(dataset):
    batch = next(stream(dataset, 1, pin_memory=True))
    assert batch["lq"].is_pinned() and batch["gt"].is_pinned()


# defaults and the wait for data ---------------------------------------------------------------------------------------


def test_workers_read_ahead_into_page_locked_memory_unless_told_otherwise():
    loader = LoaderOptions()
    assert loader.num_worker_per_gpu > 0
    assert loader.num_prefetch_queue > 1
    assert loader.pin_memory


class Processes:
    """Ten samples, each the number of the process that read it."""

    def __len__(self):
        return 10

    def __getitem__(self, key):
        return {"process": torch.tensor(os.getpid())}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_stay_from_epoch_to_epoch():
    processes = torch.cat([batch["process"] for batch in islice(batches(Processes(), TrainSampler(10), 2, 2), 20)])
    assert len(processes.unique()) == 2  # four epochs
    assert os.getpid() not in processes


def test_every_line_of_the_log_tells_the_wait_and_a_long_one_the_remedy(tmp_path, clips, train, monkeypatch):
    train(small_options(clips, name="quick", datasets__val=None, train__total_iter=2))
    read = REDSDataset.read
    monkeypatch.setattr(REDSDataset, "read", lambda *draw: time.sleep(0.5) or read(*draw))
    train(small_options(clips, name="slow", datasets__val=None, train__total_iter=2))
    for name in ("quick", "slow"):
        log = (tmp_path / "experiments" / name / "train.log").read_text()
        lines = [line for line in log.splitlines() if " iter " in line]
        waits = [int(re.search(r"data wait (\d+) %", line)[1]) for line in lines]
        assert len(waits) == 2
    assert log.count("of the time was spent waiting for data: ") == 1  # not the first


# training -------------------------------------------------------------------------------------------------------------


VARIANTS = {
    "cpu": {"prefetch_mode": "cpu"},
    "cuda": {"prefetch_mode": "cuda"},
    "all": {"prefetch_mode": "cpu", "num_worker_per_gpu": 1, "augment_on_gpu": True, "num_prefetch_queue": 3},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_and_weights_are_bit_for_bit_the_same_and_resume_is_exact(tmp_path, clips, train, variant):
    shared = {"datasets__val": None, "train__total_iter": 6, "datasets__train__use_hflip": True}
    train(small_options(clips, name="plain", **shared))
    options = {f"datasets__train__{key}": value for key, value in VARIANTS[variant].items()}
    # Stopped in the middle and resumed without the variant: what was read ahead is not counted as consumed.
    train(small_options(clips, name="other", **shared, **options, logger__save_checkpoint_freq=3))
    assert rows(tmp_path, "plain") == rows(tmp_path, "other")
    assert_same_weights(weights(tmp_path, "plain", 6), weights(tmp_path, "other", 6))
    (tmp_path / "experiments" / "other" / "training_states" / "6.state").unlink()
    train(small_options(clips, name="other", **shared, logger__save_checkpoint_freq=3), "--auto_resume")
    assert rows(tmp_path, "plain") == rows(tmp_path, "other")
    assert_same_weights(weights(tmp_path, "plain", 6), weights(tmp_path, "other", 6))


BROKEN = """
import sys
from vsr.data.stream.loader import batches

class Broken:
    def __getitem__(self, key):
        if key == 5:
            raise RuntimeError("boom")
        return {"key": key}

    def __len__(self):
        return 9

for batch in batches(Broken(), num_workers=2):
    pass
"""


def test_a_mistake_in_a_data_set_ends_the_program(tmp_path):
    """Its traceback holds the loader, whose workers ignore the signal that would end them."""
    command = [sys.executable, "-c", BROKEN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "boom" in done.stderr
