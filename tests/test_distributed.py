"""Several processes train what one does: same losses, same metrics, and states that pass between them."""

import csv
import os
import subprocess
import sys

import cv2
import pytest
import torch
from gan_cases import real_options
from processes import run_ranks, start_ranks
from reports import data_of
from synthetic import make_clips
from training import (
    BATCH_NORM,
    assert_same_weights,
    copy_until,
    predictor_options,
    rows,
    small_options,
    undo,
    weights,
    write_options,
)
from videos import make_humaneva

BATCH = 6  # over all processes


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Five frames: with two processes they cannot be shared evenly."""
    return make_clips(tmp_path_factory.mktemp("clips"), num_clips=1, num_frames=5, gt_size=(48, 64))


def launch(folder, options, processes, *arguments, entry="train"):
    """Trains, or tests, with so many processes, the batch shared among them; returns exit code and output."""
    options["datasets"]["train"]["batch_size_per_gpu"] = BATCH // processes
    return run_ranks(folder, entry, processes, "-opt", write_options(folder, options), *arguments)


def torchrun(folder, options, processes):
    """Does the same with PyTorch's launcher."""
    options["datasets"]["train"]["batch_size_per_gpu"] = BATCH // processes
    launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    command = [sys.executable, *launcher, "-m", "vsr.train", "-opt", str(write_options(folder, options))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return run.returncode, run.stdout + run.stderr


def assert_nearly_equal_rows(first, second):
    """Sums over a batch in another order differ by rounding; Adam carries it on."""
    assert [row[:2] for row in first] == [row[:2] for row in second]
    for one, other in zip(first[1:], second[1:], strict=True):
        assert float(one[2]) == pytest.approx(float(other[2]), rel=2e-4), one


@pytest.mark.parametrize(("processes", "reduction"), [(2, "mean"), (3, "sum")])
def test_losses_and_metrics_equal_one_process(tmp_path, clips, processes, reduction):
    common = {
        "train__pixel_opt": {"type": "L1Loss", "reduction": reduction},
        "train__tsa_iter": 3,  # the parameters that get gradients change
        "train__total_iter": 5,
        "val__val_freq": 2,
        "logger__print_freq": 2,
    }
    assert launch(tmp_path, small_options(clips, name="one", **common), 1)[0] == 0
    run = torchrun if processes == 2 else launch
    code, text = run(tmp_path, small_options(clips, name="several", **common), processes)
    assert code == 0, text
    assert_nearly_equal_rows(rows(tmp_path, "one"), rows(tmp_path, "several"))
    assert text.count("finished: 5 iterations") == 1, "only one process writes the log"


def test_two_processes_predict_frames_as_one(tmp_path):
    """Three validation samples cannot be shared evenly; the pictures of all of them are kept."""
    root = make_humaneva(tmp_path / "frames", num_frames=11)
    common = {"train__total_iter": 4, "train__wsupervised": 0.1, "val__val_freq": 2}
    assert launch(tmp_path, predictor_options(root, name="one", **common), 1)[0] == 0
    code, text = launch(tmp_path, predictor_options(root, name="two", **common), 2)
    assert code == 0, text
    assert_nearly_equal_rows(rows(tmp_path, "one"), rows(tmp_path, "two"))
    kept = [len(list((tmp_path / "experiments" / name).rglob("prediction.jpg"))) for name in ("one", "two")]
    assert kept == [6, 6]
    assert launch(tmp_path, predictor_options(root, name="one"), 1, entry="test")[0] == 0
    code, text = launch(tmp_path, predictor_options(root, name="two"), 2, entry="test")
    assert code == 0, text
    found = []
    for name in ("one", "two"):
        (clip,) = data_of(tmp_path / f"results/{name}/report.html")["sets"][0]["clips"]
        found.append(
            {kind: shot["frame"] for shot in clip["shots"] for kind in shot["kinds"] if kind in ("best", "worst")}
        )
    assert len(found[0]) == 2 and found[0] == found[1]
    pictures = [tmp_path / f"results/{name}/visualization/held_out_comparison.png" for name in ("one", "two")]
    assert cv2.imread(pictures[0]).shape == cv2.imread(pictures[1]).shape, "rows of both processes"


@pytest.mark.slow
def test_two_processes_show_and_measure_a_clip_as_one(tmp_path, clips):
    """They share its frames; measures of pairs give a whole clip to one of them, and the other has none."""
    assert launch(tmp_path, small_options(clips, name="one", train__total_iter=1, datasets__val=None), 1)[0] == 0
    psnr, motion = {"type": "calculate_psnr", "crop_border": 0}, {"type": "calculate_tof", "crop_border": 0}
    weights = ["--weights", "experiments/one/models/net_g_1.pth"]
    tables, shown = [], []
    for metrics, name, processes in (({"psnr": psnr}, "frames", 2), ({"psnr": psnr, "tof": motion}, "clips", 2),
                                     ({"psnr": psnr, "tof": motion}, "alone", 1)):  # fmt: skip
        options = small_options(clips, name=name, val__metrics=metrics)
        code, text = launch(tmp_path, options, processes, *weights, entry="test")
        assert code == 0, text
        with (tmp_path / f"results/{name}/metrics.csv").open(newline="") as stream:
            tables.append(
                [(row["method"], row["frame"], row["psnr"], row.get("tof")) for row in csv.DictReader(stream)]
            )
        (clip,) = data_of(tmp_path / f"results/{name}/report.html")["sets"][0]["clips"]
        shown.append({kind: shot["frame"] for shot in clip["shots"] for kind in shot["kinds"] if kind != "median"})
    assert tables[1] == tables[2] and [row[:3] for row in tables[0]] == [row[:3] for row in tables[2]]
    assert shown[0] == shown[1] == shown[2] and set(shown[0]) == {"middle", "best", "worst"}


def test_a_state_passes_from_two_processes_to_one_to_three(tmp_path, clips):
    train = {"train__total_iter": 6, "logger__save_checkpoint_freq": 2}
    assert launch(tmp_path, small_options(clips, name="one", **train), 1)[0] == 0
    for processes, stop in ((2, 2), (1, 4), (3, 6)):
        options = small_options(clips, name="passed", **train)
        assert launch(tmp_path, options, processes, "--auto_resume")[0] == 0
        undo(tmp_path, "passed", stop)
    assert_nearly_equal_rows(rows(tmp_path, "one"), rows(tmp_path, "passed"))
    one, passed = weights(tmp_path, "one", 6)["params"], weights(tmp_path, "passed", 6)["params"]
    for name, value in one.items():
        torch.testing.assert_close(passed[name], value, rtol=1e-2, atol=1e-4)


def test_three_processes_resume_exactly(tmp_path, clips):
    """DDP groups gradients, and so orders its sums, by the first step it sees: none that counts may be that."""
    options = {"train__total_iter": 5, "train__tsa_iter": 2, "logger__save_checkpoint_freq": 3, "datasets__val": None}
    assert launch(tmp_path, small_options(clips, name="whole", **options), 3)[0] == 0
    copy_until(tmp_path, "whole", "halves", 3)
    assert launch(tmp_path, small_options(clips, name="halves", **options), 3, "--auto_resume")[0] == 0
    assert_same_weights(weights(tmp_path, "whole", 5), weights(tmp_path, "halves", 5))


def test_what_a_network_keeps_beside_parameters_resumes_exactly(tmp_path, clips):
    options = {"train__total_iter": 4, "logger__save_checkpoint_freq": 2, "val__val_freq": 1, **BATCH_NORM}
    assert launch(tmp_path, small_options(clips, name="whole", **options), 2)[0] == 0
    copy_until(tmp_path, "whole", "halves", 2)
    newest = tmp_path / "experiments" / "halves" / "training_states" / "2.state"
    state = torch.load(newest, weights_only=True)
    state["progress"]["last_validation"] = 1
    torch.save(state, newest)  # as if stopped between the step and its validation
    assert launch(tmp_path, small_options(clips, name="halves", **options), 2, "--auto_resume")[0] == 0
    whole = weights(tmp_path, "whole", 4)
    assert whole["params"]["head.norm.num_batches_tracked"] == 4
    assert_same_weights(whole, weights(tmp_path, "halves", 4))
    assert rows(tmp_path, "whole") == rows(tmp_path, "halves")


def test_all_ranks_decide_alike_on_a_bad_step(tmp_path, clips):
    """A rank with a finite loss took the other's NaN for a loss scale that is too high, and went on alone."""
    trainer = {"imports": ["disagreeing_trainer"], "trainer": "DisagreeingTrainer", "train__max_bad_steps": 2}
    code, text = launch(tmp_path, small_options(clips, datasets__val=None, **trainer), 2)
    assert code != 0
    assert text.count("training diverged: 2 steps in a row") == 2, text
    assert "is deprecated" not in text, "PyTorch's advice, once for each rank"


def test_two_players_train_on_two_processes_and_resume_exactly(tmp_path, clips):
    """DDP sees the gradients of each player's own parameters only; the discriminator has two turns in a step."""
    stages = {"train__accumulate": 2, "train__total_iter": 3, "logger__save_checkpoint_freq": 1}
    code, text = launch(tmp_path, real_options(clips, tmp_path, name="whole", **stages), 2)
    assert code == 0, text
    copy_until(tmp_path, "whole", "halves", 1)
    code, text = launch(tmp_path, real_options(clips, tmp_path, name="halves", **stages), 2, "--auto_resume")
    assert code == 0, text
    assert rows(tmp_path, "whole") == rows(tmp_path, "halves")
    assert_same_weights(weights(tmp_path, "whole", 3), weights(tmp_path, "halves", 3))
    judges = [tmp_path / f"experiments/{name}/models/net_d_3.pth" for name in ("whole", "halves")]
    assert_same_weights(*(torch.load(file, weights_only=True) for file in judges))
    losses = [float(row[2]) for row in rows(tmp_path, "whole") if row[1] == "train/loss/real"]
    assert len(losses) == 3 and all(0 < loss < 10 for loss in losses)


def test_two_processes_pass_through_stages_as_one_and_resume_exactly(tmp_path, clips):
    def options(name, processes):
        stages = [
            {"from_iter": 3, "num_frame": 4, "batch_size_per_gpu": 4 // processes},
            {"from_iter": 4, "num_frame": 5, "gt_size": 48},
        ]
        return small_options(
            clips,
            name=name,
            imports=["recurrent_network"],
            network_g={"type": "RecurrentNetwork"},
            datasets__train__type="REDSRecurrentDataset",
            datasets__train__num_frame=2,
            datasets__train__stages=stages,
            datasets__val=None,
            train__total_iter=5,
            logger__save_checkpoint_freq=1,
            logger__keep_states=5,
        )

    for name, processes in (("one", 1), ("two", 2)):
        code, text = launch(tmp_path, options(name, processes), processes)
        assert code == 0, text
        assert "stage from iteration 3 on: effective batch 4" in text
    assert_nearly_equal_rows(rows(tmp_path, "one"), rows(tmp_path, "two"))
    copy_until(tmp_path, "two", "halves", 2)
    code, text = launch(tmp_path, options("halves", 2), 2, "--auto_resume")
    assert code == 0, text
    assert rows(tmp_path, "two") == rows(tmp_path, "halves")
    assert_same_weights(weights(tmp_path, "two", 5), weights(tmp_path, "halves", 5))


def test_processes_that_see_different_experiments_are_told(tmp_path, clips):
    """As on machines without a common folder."""
    options = small_options(clips, train__total_iter=2, logger__save_checkpoint_freq=2, datasets__val=None)
    assert launch(tmp_path, options, 2)[0] == 0
    options["train"]["total_iter"] = 3
    file = write_options(tmp_path, options)
    (tmp_path / "elsewhere").mkdir()
    folders = (tmp_path, tmp_path / "elsewhere")
    arguments = ("-opt", file, "--auto_resume", "--resume_mode", "new_schedule")
    for process in start_ranks(folders, "train", *arguments):
        assert "from different iterations, [0, 2]: each has to see the same" in process.communicate(timeout=120)[0]
        assert process.returncode == 2


def test_more_processes_than_frames_validate(tmp_path):
    short = make_clips(tmp_path / "short", num_clips=1, num_frames=3, gt_size=(48, 64))
    one_frame = f"{short.meta}.one"
    with open(one_frame, "w") as file:
        file.write("000 1 (48,64,3)\n")
    options = small_options(short, train__total_iter=1, datasets__val__meta_info_file=one_frame)
    code, text = launch(tmp_path, options, 2)
    assert code == 0, text
    assert len([row for row in rows(tmp_path, "small") if row[1] == "val/clips/psnr"]) == 1


def test_a_process_that_dies_ends_the_others_with_one_message(tmp_path):
    broken = make_clips(tmp_path / "broken", num_clips=1, num_frames=5, gt_size=(48, 64))
    frame = broken.gt / "000" / "00000002.png"
    frame.write_bytes(frame.read_bytes()[:100])
    options = small_options(broken, datasets__train__batch_size_per_gpu=1, train__total_iter=50, datasets__val=None)
    code, text = torchrun(tmp_path, options, 2)
    assert code != 0
    assert "00000002.png is truncated" in text
    assert "vsr/train.py" not in text.replace("vsr.train", ""), "no traceback of ours"
