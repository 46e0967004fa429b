"""The experiments of Tables 1-3: their option files, and the program that runs them."""

import csv
import json
import shutil
import signal
import sys
from pathlib import Path

import cv2
import pytest
import torch
from processes import run_module
from scipy.stats import ttest_1samp
from synthetic import make_clips
from training import stop_at

from vsr import config, tables, train
from vsr.evaluation.tables import half_interval, summarise
from vsr.utils.errors import UserError

OPTIONS = Path(__file__).parent.parent / "options"
GRID = {
    "table1": ["pixsim", "pixwise", "pixsentence"],
    "table2": ["128_crop3", "128_crop5", "256_concat", "128_concat_norm"],
    "table3": ["pcd", "nopcd"],
}
FILES = [
    *(f"{folder}{table}/{name}.yml" for folder in ("", "tables_demo/") for table in GRID for name in GRID[table]),
    *("tables/base.yml", "tables/edvr.yml", "tables_demo/base.yml", "tables_demo/edvr.yml"),
]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Overrides that make any of the files a matter of a second."""
    clips = make_clips(tmp_path_factory.mktemp("clips"), num_clips=2, num_frames=6, gt_size=(48, 64))
    roots = {"dataroot_gt": clips.gt, "dataroot_lq": clips.lq, "meta_info_file": clips.meta, "num_worker_per_gpu": 0}
    network = {"num_feat": 8, "num_extract_block": 1, "num_reconstruct_block": 1, "deformable_groups": 2}

    def overrides(file):
        tree = config.read_tree(OPTIONS / file)
        sets = [f"datasets.{phase}.{key}={value}" for phase in tree["datasets"] for key, value in roots.items()]
        sets += [f"network_g.{key}={value}" for key, value in network.items()]
        train_set = {"gt_size": 32, "batch_size_per_gpu": 1, "val_partition": "none"}
        sets += [f"datasets.train.{key}={value}" for key, value in train_set.items()]
        return [*sets, "num_gpu=0", "logger.use_tb_logger=false", "logger.print_freq=1", "val.pbar=false"]

    return overrides


@pytest.fixture(autouse=True)
def work_in(tmp_path, monkeypatch):
    (tmp_path / "options").symlink_to(OPTIONS)
    monkeypatch.chdir(tmp_path)


def sets(overrides):
    return [part for override in overrides for part in ("--set", override)]


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("tables_demo")])
def test_every_file_trains_two_iterations(file, small):
    more = ["train.total_iter=2", "train.scheduler.periods=[2]", "train.scheduler.restart_weights=[1]"]
    assert train.main(["-opt", str(OPTIONS / file), *sets([*small(file), *more])]) == 0
    name = config.read_tree(OPTIONS / file)["name"]
    assert Path(f"experiments/{name}/models/net_g_2.pth").is_file()


def network(file):
    return config.read_tree(OPTIONS / file)["network_g"]


@pytest.mark.parametrize("folder", ["", "tables_demo/"])
def test_the_files_are_the_experiments_of_the_readme(folder):
    def of(file, *keys):
        options = network(f"{folder}{file}.yml")
        return tuple((options["memory"] | options).get(key) for key in keys)

    for name in GRID["table1"]:
        assert network(f"{folder}table1/{name}.yml")["memory"] == {"type": name, "crop": 0}
    width = 32 if folder else 128
    assert of("table2/128_crop3", "num_feat", "crop", "fusion", "normalize") == (width, 3, "add", None)
    assert of("table2/128_crop5", "num_feat", "crop", "fusion", "normalize") == (width, 5, "add", None)
    assert of("table2/256_concat", "num_feat", "crop", "fusion", "normalize") == (width, 3, "concat", None)
    assert of("table2/128_concat_norm", "num_feat", "crop", "fusion", "normalize") == (width, 3, "concat", "cosine")
    assert network(f"{folder}table3/pcd.yml") == network(f"{folder}table2/128_crop5.yml")
    assert network(f"{folder}table3/nopcd.yml") == network(f"{folder}table3/pcd.yml") | {"with_pcd": False}


def test_full_scale_differs_from_the_users_file_only_where_the_experiment_does():
    user = config.read_tree(OPTIONS / "1e-4.yml")
    for file in (f for f in FILES if not f.startswith("tables_demo")):
        tree = config.read_tree(OPTIONS / file)
        assert {key for key in user if tree.get(key) != user[key]} == {"name", "network_g", "datasets"}
        validation, test = tree["datasets"]["val"], tree["datasets"].pop("test")
        assert tree["datasets"] | {"val": validation | {"name": "REDS4"}} == user["datasets"]
        assert {"padding": "reflection_circle", "num_frame": 5} | test | {
            key: validation[key] for key in ("io_backend", "cache_data")
        } == validation | {"name": "REDS4", "meta_info_file": "meta_info/meta_info_REDS4_test_GT.txt"}


def run_table(small, *arguments):
    own = small("tables_demo/edvr.yml")
    return tables.main(["table3", "--base", "demo", "--iters", "2", *arguments, *sets(own)])


def test_a_table_is_trained_tested_and_written_and_nothing_is_done_twice(small):
    assert run_table(small, "--seeds", "2") == 0
    with Path("results/tables/demo_table3_2it.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["model"] for row in rows] == ["EDVR", "pcd", "nopcd", "bicubic"]
    for row in rows[:3]:
        costs = json.loads(Path(f"results/{result_name(row['model'])}_seed0_2it/costs.json").read_text())
        assert int(row["parameters"]) == costs["parameters"] > 0
        assert int(row["macs"]) == costs["macs"] > 0
    assert int(rows[2]["macs"]) < int(rows[1]["macs"])
    assert rows[3]["psnr_std"] == "" and float(rows[2]["psnr_std"]) > 0  # bicubic knows no seed
    assert rows[0]["difference"] == "" and float(rows[1]["half_interval"]) > 0
    scores = [json.loads(Path(f"results/demo_table3_nopcd_seed{seed}_2it/metrics.json").read_text()) for seed in (0, 1)]
    means = [report["datasets"]["demo"]["scores"]["network"]["mean"]["psnr"] for report in scores]
    assert float(rows[2]["psnr"]) == pytest.approx(sum(means) / 2)
    text = Path("results/tables/demo_table3_2it.md").read_text()
    assert "| nopcd |" in text and "2 iterations, 2 seed(s)" in text and "vsr.tables" in text
    strip = cv2.imread("results/tables/demo_table3_2it.png")
    assert strip.shape[1] > 6 * 40  # LQ, bicubic, three networks, ground truth

    written = {file: file.stat().st_mtime_ns for file in Path("experiments").rglob("*.pth")}
    assert len(written) == 6
    assert run_table(small, "--seeds", "2") == 0
    assert {file: file.stat().st_mtime_ns for file in Path("experiments").rglob("*.pth")} == written


def test_networks_of_clips_and_of_windows_are_one_table(tmp_path):
    clips = make_clips(tmp_path / "clips", num_clips=2, num_frames=7, gt_size=(48, 64))
    roots = {"dataroot_gt": clips.gt, "dataroot_lq": clips.lq, "meta_info_file": clips.meta, "num_worker_per_gpu": 0}
    own = [f"datasets.{phase}.{key}={value}" for phase in ("train", "test") for key, value in roots.items()]
    own += ["datasets.train.num_frame=5", "datasets.train.gt_size=32", "num_gpu=0", "val.pbar=false"]
    assert tables.main(["networks", "--iters", "2", *sets(own)]) == 0
    with Path("results/tables/films_networks_2it.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["model"] for row in rows] == ["EDVR", "BasicVSR", "BasicVSRPlusPlus", "MemoryBasicVSR", "bicubic"]
    assert all(float(row["training"]) > 0 for row in rows[:4]) and rows[4]["training"] == ""
    macs = [int(row["macs"]) for row in rows[:4]]
    assert max(macs) < 1.3 * min(macs), "their costs are similar"


def result_name(model):
    return {"EDVR": "demo_table_edvr", "pcd": "demo_table2_128_crop5", "nopcd": "demo_table3_nopcd"}[model]


def test_a_killed_table_goes_on_where_it_stopped(small, tmp_path):
    own = [*small("tables_demo/edvr.yml"), "logger.save_checkpoint_freq=1"]
    arguments = ["table3", "--base", "demo", "--iters", "6", *sets(own)]
    assert stop_at(run_module(tmp_path, "tables", *arguments), "iter 3/6", signal.SIGKILL)[0] == -signal.SIGKILL
    begun = tmp_path / "experiments/demo_table_edvr_seed0_6it"
    assert (begun / "training_states").is_dir() and not (tmp_path / "results/tables").exists()
    with pytest.raises(UserError, match="begun, not finished: continue with --resume"):
        tables.main(arguments)
    assert tables.main([*arguments, "--resume"]) == 0
    assert "resumed from" in (begun / "train.log").read_text()
    assert Path("results/tables/demo_table3_6it.md").is_file()


def test_a_stopped_table_names_its_own_option_to_go_on(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "main", lambda arguments: sys.exit(130))
    with pytest.raises(SystemExit):
        run_table(small)
    assert "vsr tables with --resume goes on from there" in capsys.readouterr().out


def test_changed_options_are_not_mixed_into_a_table(small):
    run_table(small)
    with pytest.raises(UserError, match=r"options have changed since .* was begun \(train.optim_g.lr: 0.0008 → 1.0\)"):
        run_table(small, "--set", "train.optim_g.lr=1")
    assert run_table(small, "--set", "logger.print_freq=2") == 0, "it changes nothing that is in the table"
    shutil.rmtree("experiments")  # as on a machine that has only the results
    with pytest.raises(UserError, match="results/demo_table_edvr_seed0_2it was made with other options"):
        run_table(small, "--set", "train.optim_g.lr=1")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("val.metrics.psnr=~", "the tables compare val.metrics.psnr"),
        ("datasets.test=~", "need a test set with ground truth"),
        ("datasets.test.dataroot_gt=~", "need a test set with ground truth"),
    ],
)
def test_what_no_table_can_be_made_of_is_told_before_anything_runs(small, override, message):
    with pytest.raises(UserError, match=message):
        tables.main(["table3", "--base", "demo", *sets([*small("tables_demo/edvr.yml"), override])])
    assert not Path("experiments").exists()


def test_another_folder_is_told(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"elsewhere' has no options/tables_demo/edvr.yml.*in the repository's folder"):
        tables.main(["table1", "--base", "demo"])


def test_missing_data_is_one_message_before_anything_runs():
    with pytest.raises(UserError, match="does not exist"):
        tables.main(["all", "--base", "reds"])
    assert not Path("experiments").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["table4"],
        ["table1", "--seeds", "0"],
        ["table1", "--iters", "-3"],
        ["table1", "--set", "name=mine"],
        ["table1", "--set", "manual_seed=3"],
        ["table1", "--base", "films"],
        ["networks", "--base", "demo"],
    ],
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(SystemExit, match="2"):
        tables.main(arguments)


def test_the_interval_is_students():
    values = [0.1, -0.02, 0.05, 0.07]
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    mean = sum(values) / 4
    assert mean + half_interval(values) == pytest.approx(expected.high)
    assert mean - half_interval(values) == pytest.approx(expected.low)
    assert half_interval([1.0]) is None


def test_differences_are_paired_by_clip_and_seed():
    reference = [{"a": {"psnr": 20.0}, "b": {"psnr": 30.0}}, {"a": {"psnr": 22.0}, "b": {"psnr": 32.0}}]
    better = [{clip: {"psnr": values["psnr"] + 0.5} for clip, values in seed.items()} for seed in reference]
    row = summarise("better", better, reference, {})
    assert row["difference"] == 0.5 and row["half_interval"] == 0  # although clips and seeds differ by far more
    assert row["psnr"] == 26.5
    assert row["psnr_std"] == pytest.approx(2**0.5)
    assert "difference" not in summarise("itself", reference, reference, {})


def test_milliseconds_are_the_median_after_a_warm_up():
    calls = []
    assert tables.milliseconds(lambda: calls.append(1), torch.device("cpu")) >= 0
    assert len(calls) == 6
