"""Options as a whole: mistakes are told with their keys, all at once; what a command does not need may be missing."""

import datetime
import os
import subprocess
import sys

import pytest
from options_files import change, mistakes, write
from processes import run_module
from training import start

from vsr import config

WEIGHTS_TOO_MANY = {"type": "CosineAnnealingRestartLR", "periods": [2, 2], "restart_weights": [1, 1, 1]}


def test_a_right_file_is_read(tmp_path, tree):
    options = config.load(write(tmp_path, tree))
    assert options.train.total_iter == 4
    assert options.datasets["train"].loader.batch_size_per_gpu == 2
    assert options.network_g().num_frame == 5
    assert "network_g.num_feat: 8 (default 64)" in options.changes
    assert options.resolved["network_g"]["num_feat"] == 8


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("network_g.type", "EDRV", "network_g.type: unknown arch 'EDRV'; did you mean 'EDVR'?"),
        ("network_g.type", "del", "network_g.type: missing"),
        ("network_g.type", 3, "network_g.type: expected a name"),
        ("network_g", "EDVR", "network_g: expected a mapping with `type:`, got 'EDVR' (text)"),
        ("network_g.num_frames", 5, "network_g.num_frames: unknown key; did you mean 'num_frame'?"),
        ("network_g.num_feat", "many", "network_g.num_feat: expected a whole number, got 'many' (text)"),
        ("network_g.num_feat", 8.5, "network_g.num_feat: expected a whole number, got 8.5 (a number)"),
        ("network_g.num_feat", True, "network_g.num_feat: expected a whole number, got True (true/false)"),
        ("network_g.num_feat", 9, "network_g.num_feat: 9 is not a multiple of deformable_groups 8"),
        ("network_g.with_tsa", "yes please", "network_g.with_tsa: expected true or false"),
        ("network_g.num_feat", 0, "network_g.num_feat: expected a whole number of at least 1, got 0"),
        ("network_g.num_in_ch", 4, "network_g.num_in_ch: expected 3, got 4"),
        ("network_g.num_extract_block", -1, "network_g.num_extract_block: expected a whole number of at least 0, got"),
        ("network_g.num_feat", 2**50, "network_g: it cannot be built with these options"),
        ("network_g.num_feat", 1e300, "network_g.num_feat: 1e+300 (a number) is out of range"),
        ("network_g.num_frame", 7, "datasets.train.num_frame: 5, but network_g.num_frame is 7"),
        ("path", {"type": "x"}, "path.type: unknown key"),
        ("datasets.train.val_partition", "del", "val_partition: missing; expected 'REDS4' or 'official' or 'none'"),
        ("model_type", "ESRGANModel", "model_type: unknown trainer 'ESRGANModel': its losses are not built in"),
        ("train.type", "x", "train.type: unknown key"),
        ("network_g.center_frame_idx", 5, "network_g.center_frame_idx: 5 is not one of the 5 frames (num_frame)"),
        ("network_g.center_frame_idx", 1, "network_g.center_frame_idx: 1, but the ground truth is the middle frame, 2"),
        ("scale", 2, "datasets.train: GT is not 2 x LQ"),
        ("scale", 2.0, "datasets.train: GT is not 2 x LQ"),
        ("scale", "1e0", "restores ×4"),
        ("scale", 10**400, "is out of range"),
        ("scale", 10**300, "is out of range"),
        ("scale", 0, "scale: expected a whole number of at least 1, got 0"),
        ("name", 1, "name: expected text, got 1 (a whole number); put it in quotes"),
        ("name", datetime.date(2026, 1, 2), "'2026-01-02' is not a valid value (its kind is date); quote it if it is"),
        ("name", "a\nb", r"name: 'a\nb' cannot be the name of a folder"),
        ("name", "a\0b", r"name: 'a\x00b' cannot be the name of a folder"),
        ("name", "가" * 80, "has 240 bytes; choose at most 200"),
        ("name", "a/b", "cannot be the name of a folder"),
        ("name", "del", "name: missing"),
        ("num_gpu", "two", "num_gpu: expected a whole number of at least 0 or 'auto'"),
        ("num_gpu", -1, "num_gpu: expected a whole number of at least 0 or 'auto', got -1"),
        ("datasets.train.gtsize", 64, "gtsize: unknown key; did you mean 'gt_size', which is given already?"),
        ("train.total_iters", 9, "train.total_iters: unknown key; did you mean 'total_iter', which is given already?"),
        ("trian", {}, "trian: unknown key; did you mean 'train', which is given already?"),
        ("network_g.type", "Toy", """one of your own: imports: [its module], and @register("arch") above its"""),
        ("val", {"metrics": {"a": {"type": "calculate_vmaf"}}}, "metrics.a.type: unknown metric 'calculate_vmaf'; kn"),
        ("manual_sed", 1, "manual_sed: unknown key; did you mean 'manual_seed'?"),
        ("trainer", "ScrachTrainer", "trainer: unknown trainer 'ScrachTrainer'; did you mean 'ScratchTrainer'?"),
        ("datasets", "del", "datasets: missing"),
        ("datasets", [1], "datasets: expected a mapping"),
        ("datasets.train", "del", "datasets.train: missing"),
        ("datasets.train.type", "RedsDataset", "did you mean 'REDSDataset'?"),
        ("datasets.train.numframe", 5, "datasets.train.numframe: unknown key; did you mean 'num_frame'?"),
        ("datasets.train.gt_size", 33, "datasets.train.gt_size: 33 is not a multiple of scale 4"),
        ("datasets.train.gt_size", 4096, "larger than"),
        ("datasets.train.gt_size", 24, "datasets.train.gt_size: 24 is not a multiple of 16 (EDVR); nearest: 32"),
        ("datasets.train.num_frame", 4, "datasets.train.num_frame: 4 is not odd"),
        ("datasets.train.val_partition", "REDS5", "expected 'REDS4' or 'official' or 'none'"),
        ("datasets.train.val_partition", None, "expected 'REDS4' or 'official' or 'none'"),
        ("datasets.train.val_partition", "del", "datasets.train.val_partition: missing"),
        ("datasets.train.interval_list", 1, "interval_list: expected a list, got 1"),
        ("datasets.train.interval_list", ["a"], "interval_list[0]: expected a whole number"),
        ("datasets.train.io_backend", {"type": "tape"}, "expected 'disk' or 'lmdb', got 'tape'"),
        ("datasets.train.batch_size_per_gpu", 0, "batch_size_per_gpu: expected a whole number of at least 1, got 0"),
        ("datasets.train.dataset_enlarge_ratio", 10**9, "dataset_enlarge_ratio: 1000000000 is too large"),
        ("datasets.train.batch_size", 4, "datasets.train.batch_size: unknown key"),
        ("datasets.train.dataroot_gt", "nowhere", "datasets.train.dataroot_gt: "),
        ("datasets.train.meta_info_file", "nowhere.txt", "nowhere.txt"),
        ("datasets.training", {}, "datasets.training: unknown phase; phases are called train"),
        ("datasets.train2", {}, "datasets.train2: unknown phase; phases are called train"),
        ("datasets.extra", {}, "phases are called train"),
        ("datasets.extra", None, "phases are called train"),
        ("datasets.val.name", "../../esc", "datasets.val.name: '../../esc' cannot be the name of a folder"),
        ("datasets.val.name", "", "datasets.val.name: '' cannot be the name of a folder"),
        ("datasets.val.padding", "reflect", "expected 'replicate' or 'reflection'"),
        ("datasets.val_2", "val", "datasets.val_2: expected a mapping"),
        ("train", "del", "train: missing"),
        ("train", 5, "train: expected a mapping of keys, got 5"),
        ("train.total_iter", "del", "train.total_iter: missing"),
        ("train.total_iter", 0, "train.total_iter: expected a whole number of at least 1, got 0"),
        ("train.total_iter", 10.5, "train.total_iter: expected a whole number"),
        ("train.optim_g.type", "Adma", "train.optim_g.type: unknown optimizer 'Adma'; did you mean 'Adam'?"),
        ("train.optim_g.lr", "fast", "train.optim_g.lr: expected a number, got 'fast'"),
        ("train.optim_g.lr", float("nan"), "train.optim_g.lr: expected a finite number, got nan"),
        ("train.optim_g.lr", "1e400", "train.optim_g.lr: expected a finite number, got 1e400"),
        ("train.optim_g.lr", 1e300, "train.optim_g.lr: 1e+300 (a number) is out of range"),
        ("train.optim_g.lr", -1, "train.optim_g.lr: expected a number of at least 0, got -1"),
        ("train.optim_g.betas", [0.9], "train.optim_g.betas: expected a list of 2, got 1"),
        ("train.scheduler", WEIGHTS_TOO_MANY, "2 periods and 3 restart_weights"),
        ("train.scheduler", {"type": "CosineAnnealingRestartLR", "periods": [4], "eta_min": -1}, "eta_min: expected"),
        ("train.pixel_opt.loss_weight", -1, "train.pixel_opt.loss_weight: expected a number of at least 0, got -1"),
        ("train.pixel_opt.reduction", "total", "expected 'mean' or 'sum'"),
        ("train.pixel_opt.type", None, "train.pixel_opt.type: missing"),
        ("train.ema_decay", 1.5, "train.ema_decay: expected a number of at least 0 and below 1, got 1.5"),
        ("val", {"metrics": {"psnr": {"type": "psnr", "crop_border": 0}}}, "unknown metric 'psnr'"),
        ("val", {"val_freq": 0}, "val.val_freq: expected a whole number of at least 1, got 0"),
        ("val", {"metrics": {}}, "val.metrics: empty; name at least one metric"),
        ("val", {"suffix": "a/b"}, "val.suffix: 'a/b' is part of a file name"),
        ("logger", {"print_frq": 1}, "logger.print_frq: unknown key; did you mean 'print_freq'?"),
        ("path", {"resume_state": "no.state"}, "path.resume_state: no.state does not exist"),
        ("datasets.train.use_shufle", True, "datasets.train.use_shufle: unknown key; did you mean 'use_shuffle'?"),
        ("dist_params", {"backend": "mpi"}, "expected 'nccl' or 'gloo'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_key(tmp_path, tree, path, value, message):
    if "." in path and path.split(".")[0] not in tree:
        tree[path.split(".")[0]] = {}
    change(tree, path, value)
    assert message in mistakes(tmp_path, tree)


def test_pretrained_weights_may_be_gone(tmp_path, tree):
    """Who resumes, or tests other weights, does not need them."""
    tree["path"] = {"pretrain_network_g": "no.pth"}
    options = config.load(write(tmp_path, tree), missing_data="note")
    assert "path.pretrain_network_g: no.pth does not exist" in options.notes


@pytest.mark.parametrize(
    ("phase", "changes", "message"),
    [
        ("train", {"type": "VideoTestDataset"}, "datasets.train.type: VideoTestDataset is for testing"),
        ("val", {"type": "REDSDataset", "val_partition": "none"}, "datasets.val.type: REDSDataset is for training"),
    ],
)
def test_training_and_test_sets_are_not_confused(tmp_path, tree, phase, changes, message):
    tree["datasets"][phase] = {**tree["datasets"]["val"], **changes}
    assert message in mistakes(tmp_path, tree)


def test_all_mistakes_are_told_at_once(tmp_path, tree):
    change(tree, "network_g.num_feats", 8)
    change(tree, "train.total_iter", "del")
    change(tree, "train.optim_g.lr", "fast")
    change(tree, "datasets.val.dataroot_lq", "nowhere")
    change(tree, "datasets.train.gt_size", 30)
    text = mistakes(tmp_path, tree)
    assert text.startswith("5 mistakes in")
    for part in ("num_feats", "train.total_iter: missing", "optim_g.lr", "nowhere", "datasets.train.gt_size: 30 is"):
        assert part in text


def test_missing_data_is_a_warning_of_check(tmp_path, tree, capsys):
    change(tree, "datasets.train.dataroot_gt", "nowhere")
    options = config.load(write(tmp_path, tree), missing_data="note")
    assert config.report_check("options.yml", options) == 0
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if "nowhere" in line]
    assert warning.startswith("warning: datasets.train.dataroot_gt: ")
    assert warning.endswith(": without --check, the command would stop here")


@pytest.mark.parametrize(("val_freq", "count"), [(None, 1), (2, 0)])
def test_a_validation_set_that_is_measured_at_the_end_only_is_noted(tmp_path, tree, val_freq, count):
    change(tree, "val", {"val_freq": val_freq})
    file = write(tmp_path, tree)
    text = "datasets.val is measured at the end only; val.val_freq: N measures every N iterations"
    assert config.load(file).notes.count(text) == count
    assert text not in config.load(file, need="test").notes


def test_psnr_and_ssim_leave_out_no_border_by_default(tmp_path, tree):
    change(tree, "val", {"metrics": {name: {"type": f"calculate_{name}"} for name in ("psnr", "ssim")}})
    assert [metric.crop_border for metric in config.load(write(tmp_path, tree)).resolved.val.metrics.values()] == [0, 0]


def test_no_trainer_is_the_default(tmp_path, tree):
    assert config.load(write(tmp_path, tree | {"trainer": None})).trainer.__name__ == "ScratchTrainer"


@pytest.mark.parametrize(
    ("periods", "note"), [([2], "stays at its lowest"), ([2, 2], None), ([8], "has not fallen when training ends")]
)
def test_a_schedule_that_is_not_as_long_as_the_training_is_noted(tmp_path, tree, periods, note):
    change(tree, "train.scheduler", {"type": "CosineAnnealingRestartLR", "periods": periods})
    notes = [note for note in config.load(write(tmp_path, tree)).notes if "train.scheduler" in note]
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0]


def test_testing_needs_no_training_data(tmp_path, tree):
    change(tree, "datasets.train.dataroot_gt", "nowhere")
    assert "nowhere" in mistakes(tmp_path, tree)
    (note,) = config.load(write(tmp_path, tree), need="test").notes
    assert note.startswith("datasets.val: 2 clips, 12 frames, from '")


def test_a_file_that_only_tests_needs_no_training_sections(tmp_path, tree):
    del tree["train"], tree["datasets"]["train"]
    assert config.load(write(tmp_path, tree), need="test").train is None
    assert "train: missing" in mistakes(tmp_path, tree)


@pytest.mark.parametrize("entry", ["train", "test"])
def test_the_command_line_exits_with_2_and_no_traceback(tmp_path, tree, entry):
    change(tree, "network_g.num_feats", 8)
    process = start(tmp_path, write(tmp_path, tree), "--check", entry=entry)
    text, _ = process.communicate()
    assert process.returncode == 2
    assert "num_feats: unknown key" in text
    assert "Traceback" not in text


def test_an_unknown_back_end_in_the_environment_exits_with_2_and_no_traceback(tmp_path, tree):
    """It is read at import: only a new interpreter meets it."""
    command = [sys.executable, "-m", "vsr.train", "-opt", str(write(tmp_path, tree)), "--set", "num_gpu=0"]
    environment = {**os.environ, "VSR_OPS": "foo"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "error: VSR_OPS=foo: expected one of" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_wrong_world_size_exits_with_2_and_no_traceback(tmp_path, tree):
    process = run_module(tmp_path, "train", "-opt", write(tmp_path, tree), "--set", "num_gpu=0", WORLD_SIZE="abc")
    text, _ = process.communicate()
    assert process.returncode == 2
    assert "error: WORLD_SIZE is 'abc'; expected a" in text
    assert "Traceback" not in text
