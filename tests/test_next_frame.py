"""Next-frame training and testing from options files: learns, keeps results, resumes exactly, tells contradictions."""

import csv
import json
import math
import re
import signal

import cv2
import pytest
import torch
from training import assert_same_weights, log_of, predictor_options, rows, start, stop_at, weights, write_options
from videos import make_humaneva

from vsr import config, test
from vsr.evaluation import validation
from vsr.evaluation.results_folder import results_folder
from vsr.utils.errors import UserError

TYPES = ["nextframe", "subtract", "opticalflow"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_humaneva(tmp_path_factory.mktemp("humaneva"))


@pytest.fixture(autouse=True)
def work_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


OTHERS = {name: {"mean": {"psnr": 19.0}} for name in ("copy-last", "mean of memory", "best memory frame")}


def of_type(test_type):
    paths = ("network_g", "datasets__train", "datasets__val")
    return {f"{path}__test_type": test_type for path in paths}


def results(folder, name="small"):
    (found,) = (folder / "experiments" / name / "Results").glob("*/*/*/*")
    return found


@pytest.mark.parametrize("test_type", TYPES)
def test_training_lowers_the_loss(tmp_path, root, train, test_type):
    rate = {"train__optim_g": {"type": "Adam", "lr": 4e-3}}
    train(predictor_options(root, train__total_iter=60, val__val_freq=30, **rate, **of_type(test_type)))
    losses = [float(value) for _, key, value in rows(tmp_path, "small")[1:] if key == "train/loss"]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert "copy-last" in log_of(tmp_path) and "mean of memory" in log_of(tmp_path)


def test_results_lie_where_the_original_project_put_them(tmp_path, root, train):
    train(predictor_options(root, train__num_pictures=2))
    found = results(tmp_path)
    assert found.relative_to(tmp_path / "experiments" / "small").parts == (
        "Results",
        "nextframe_fi2_Humaneva",
        "Static_Conv_multi_sep1by1_pixwise_m3_eall_hop1",
        "unet_conv[3,4,8][False, True]",
        "L1Loss_e1e-03_d1e-03_W24H16",
    )
    frames = {"sentence_00.jpg", "sentence_01.jpg", "sentence_02.jpg", "query.jpg", "target.jpg", "prediction.jpg"}
    for name in ("best_loss", "last"):
        assert {folder.name for folder in (found / name / "out_image").iterdir()} == {"0", "1"}
        assert {file.name for file in (found / name / "out_image" / "1").iterdir()} == frames
        levels = {file.name for file in (found / name / "weight_image" / "1").iterdir()}
        assert levels == {"level_1.jpg", "level_2.jpg"}
        assert cv2.imread(str(found / name / "out_image" / "1" / "query.jpg")).shape == (16, 24, 3)
        network = config.load("small.yml").network_g()
        network.load_state_dict(torch.load(found / "weight" / f"{name}.pth", weights_only=True)["params"])


def test_the_readmes_settings_have_the_readmes_folder(tmp_path, monkeypatch):
    """The one path that the original README spells out."""
    root = config.__file__.rpartition("/vsr/")[0]
    options = config.load(f"{root}/options/restoration/unet/spatial_weight/pixsim.yml", missing_data="note")
    assert str(results_folder(options)) == (
        "nextframe_fi50_Humaneva/Static_Conv_multi_sep1by1_m10_e128_hop1/unet_conv[3,32,64,128][True, True, True]/"
        "L1Loss_e1e-03_d1e-03_W64H64"
    )


def test_experiments_that_differ_have_different_folders(root, tmp_path):
    changes = [
        {},
        {"network_g__memory": {"type": "pixsim"}},
        {"network_g__memory": {"type": "pixwise", "crop": 3}},
        {"network_g__memory": {"type": "pixwise", "embedding": "conv3x3"}},
        {"network_g__memory": {"type": "pixwise", "embedding": "fc"}},
        {"network_g__memory": {"type": "pixwise", "flat2d": {"stride": 2}}},
        {"network_g__memory": {"type": "pixwise", "normalize": "cosine"}},
        {"network_g__memory": {"type": "pixwise", "hops": 2, "tying": "layer"}},
        {"network_g__noskip": [True, True]},
        {"network_g__query_sentence_separate": True},
        {"train__wsupervised": 0.1},
        {"train__lr": {"encoder": 1e-4}},
        {"train__lr": {"decoder": 1e-4}},
        {"train__lr": {"memory": 1e-4}},
        {"train__pixel_opt": {"type": "MSELoss"}},
        {"datasets__train__random_interval": True},
        of_type("subtract"),
    ]
    folders = [results_folder(config.load(write_options(tmp_path, predictor_options(root, **c)))) for c in changes]
    assert len(set(folders)) == len(folders)


def test_best_results_are_those_of_the_lowest_loss(tmp_path, root, train):
    """At a rate that destroys the network, the first validation stays the best."""
    train(predictor_options(root, train__optim_g={"type": "Adam", "lr": 1e-3}, train__total_iter=3))
    kept = torch.load(results(tmp_path) / "weight" / "best_loss.pth", weights_only=True)
    options = predictor_options(root, train__optim_g={"type": "Adam", "lr": 1e-3}, train__total_iter=3)
    options["name"], options["train"]["total_iter"] = "worse", 6
    options["train"]["scheduler"] = {"type": "MultiStepRestartLR", "milestones": [3], "gamma": 1e4}
    train(options)
    losses = [float(row[2]) for row in rows(tmp_path, "worse") if row[1] == "val/held_out/loss"]
    assert losses[1] > losses[0]
    assert_same_weights(torch.load(results(tmp_path, "worse") / "weight" / "best_loss.pth", weights_only=True), kept)
    last = torch.load(results(tmp_path, "worse") / "weight" / "last.pth", weights_only=True)
    assert_same_weights(last, weights(tmp_path, "worse", 6))


def test_killing_and_resuming_equals_not_stopping(tmp_path, root, train):
    common = {"datasets__train__random_interval": True, "train__wsupervised": 0.1, "train__ema_decay": 0.9}
    train(predictor_options(root, name="whole", **common))
    halves = predictor_options(root, name="halves", **common)
    process = start(tmp_path, write_options(tmp_path, halves))
    code, _ = stop_at(process, "iter 5/6", signal.SIGKILL)
    assert code == -signal.SIGKILL
    train(halves, "--auto_resume")
    assert_same_weights(weights(tmp_path, "whole", 6), weights(tmp_path, "halves", 6))
    assert rows(tmp_path, "whole") == rows(tmp_path, "halves")
    whole, resumed = (torch.load(results(tmp_path, name) / "weight" / "best_loss.pth") for name in ("whole", "halves"))
    assert_same_weights(whole, resumed)


def test_the_three_parts_have_their_own_rates(tmp_path, root, train):
    common = {"train__total_iter": 1, "network_g__query_sentence_separate": True}
    train(predictor_options(root, name="still", train__optim_g={"type": "Adam", "lr": 0.0}, **common))
    parts = {"encoder": {"encoder", "sentence_encoder"}, "decoder": {"decoder"}, "memory": {"memory"}}
    for part, prefixes in parts.items():
        rates = {other: 0.0 for other in parts if other != part}
        train(predictor_options(root, name=part, train__lr=rates, **common))
        before, after = (weights(tmp_path, name, 1)["params"] for name in ("still", part))
        moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
        assert moved == prefixes


def test_supervised_weights_turn_to_the_frames_like_the_next(tmp_path, root, train):
    """With supervision alone the memory gives the last sentence, the most like the next frame, the largest share."""
    options = predictor_options(
        root,
        train__total_iter=60,
        train__wsupervised=1.0,
        train__optim_g={"type": "Adam", "lr": 1e-2},
        train__pixel_opt={"type": "L1Loss", "loss_weight": 0.0},
    )
    train(options)
    losses = [float(value) for _, key, value in rows(tmp_path, "small")[1:] if key == "train/loss"]
    assert losses[-1] < 0.8 * losses[0]


def test_supervision_does_not_depend_on_how_a_batch_is_split(tmp_path, root, train):
    loss = {"type": "L1Loss", "reduction": "sum"}
    common = {"train__pixel_opt": loss, "train__wsupervised": 1000.0, "train__total_iter": 1, "datasets__val": None}
    train(predictor_options(root, name="whole", datasets__train__batch_size_per_gpu=4, **common))
    split = {"datasets__train__batch_size_per_gpu": 1, "train__accumulate": 4}
    train(predictor_options(root, name="split", **split, **common))
    whole, parts = (float(rows(tmp_path, name)[1][2]) for name in ("whole", "split"))
    assert parts == pytest.approx(whole, rel=1e-4)


def test_a_best_loss_survives_one_that_is_no_number(tmp_path, root, train, monkeypatch):
    losses = iter([0.10, 0.08, math.nan, 0.30])

    def spoilt(scores):
        return {"network": {"mean": {"loss": next(losses), "psnr": 20.0}}, **OTHERS}

    monkeypatch.setattr(validation, "average", spoilt)
    train(predictor_options(root, train__total_iter=4, val__val_freq=1))
    log = (tmp_path / "experiments" / "small" / "train.log").read_text()
    assert re.findall(r"loss \S+  \(best (\S+)\)", log) == ["0.1000", "0.0800", "0.0800", "0.0800"]


def test_only_this_many_weights_are_kept(tmp_path, root, train):
    train(predictor_options(root, logger__save_checkpoint_freq=1, logger__keep_weights=2, datasets__val=None))
    files = {file.name for file in (tmp_path / "experiments/small/models").iterdir()}
    assert files == {f"net_g_{iteration}.{kind}" for iteration in (5, 6) for kind in ("pth", "safetensors")}


def test_tensorboard_shows_target_prediction_copy_last_and_weights(tmp_path, root, train):
    train(predictor_options(root, logger__use_tb_logger=True, train__total_iter=3))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "experiments" / "small" / "tb_logger"))
    events.Reload()
    titles = {"target", "prediction", "copy-last", "weights level_1", "weights level_2"}
    assert {f"example/{title}".replace(" ", "_") for title in titles} <= {
        tag.replace(" ", "_") for tag in events.Tags()["images"]
    }


# test -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test_type", TYPES)
def test_a_test_reports_every_method_by_clip_action_and_camera(tmp_path, root, train, test_type):
    options = predictor_options(root, train__total_iter=2, **of_type(test_type))
    options["datasets"]["test"] = {
        **options["datasets"]["val"],
        "name": "two",
        "list_file": str(root / "train_list.csv"),
    }
    options["datasets"].pop("val")
    train(options)
    assert test.main(["-opt", "small.yml", "--save_weights"]) == 0
    report = json.loads((tmp_path / "results/small/metrics.json").read_text())["datasets"]["two"]
    assert set(report["scores"]) == {"copy-last", "mean of memory", "best memory frame", "network"}
    assert set(report["scores_by_action"]["network"]) == {"Box", "Jog", "mean"}
    assert set(report["scores_by_camera"]["network"]) == {"C1", "C2", "mean"}
    assert {"l1", "psnr", "ssim", "psnr_moved"} <= set(report["scores"]["copy-last"]["mean"])
    assert ("epe" in report["scores"]["network"]["mean"]) == (test_type == "opticalflow")
    table = (tmp_path / "results/small/two_table.txt").read_text()
    assert "mean of memory" in table and test_type in table
    with (tmp_path / "results/small/metrics.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 2 * 4 * 4  # clips, windows, methods
    assert {line["camera"] for line in lines} == {"C1", "C2"}
    picture = cv2.imread(str(tmp_path / "results/small/visualization/two_comparison.png"))
    assert picture.shape[0] > 5 * 16
    pictures = tmp_path / "results/small/visualization/two"
    assert len(list((pictures / "weight_image").iterdir())) == len(list((pictures / "out_image").iterdir())) == 8


def test_best_weights_can_be_tested(tmp_path, root, train):
    train(predictor_options(root))
    file = results(tmp_path) / "weight" / "best_loss.pth"
    assert test.main(["-opt", "small.yml", "--weights", str(file)]) == 0


def test_a_network_no_better_than_the_mean_is_flagged(tmp_path, root, train):
    train(predictor_options(root, train__total_iter=1))
    assert test.main(["-opt", "small.yml"]) == 0
    assert "the network is not above the mean of its memory" in (tmp_path / "results/small/test.log").read_text()


# options --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets__val__test_type": "subtract"}, "datasets.val.test_type: subtract, but network_g.test_type is next"),
        ({"datasets__train__width": 32}, r"datasets.train: height, width are [16, 32], but network_g.frame_size is"),
        ({"trainer": "ScratchTrainer"}, "trainer: ScratchTrainer is for super-resolution, but FramePredictor is for"),
        ({"network_g": {"type": "EDVR"}}, "datasets.train: it is for next-frame, but EDVR is for super"),
        ({"val__metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}}}, "val.metrics: FramePredictor is"),
        ({"network_g__noskip": [True]}, "network_g.noskip: has 1 entries; the encoder has 2 levels"),
        ({"network_g__decoder__type": "Unet"}, "network_g.decoder.type: unknown decoder 'Unet'"),
        ({"network_g__encoder": {"type": "UNetEncoder"}}, "network_g.encoder.channels: missing"),
        ({"network_g__memory__crop": 4}, "network_g: crop is 4; the window needs a middle"),
        ({"network_g__test_type": "frame"}, "network_g.test_type: expected 'nextframe' or 'subtract'"),
        ({"train__wsupervised": -1}, "train.wsupervised: expected a number of at least 0, got -1"),
        ({"train__lr": 1e-3}, "train.lr: unknown key"),
        ({"train__lr": {"encoder": -1}}, "train.lr.encoder: expected a number of at least 0, got -1"),
        ({"train__lr": {"memory": 1e300}}, "train.lr.memory: 1e+300 (a number) is out of range"),
        ({"train__lr": {"encodr": 1e-3}}, "train.lr.encodr: unknown key; did you mean 'encoder'?"),
        ({"logger__keep_weights": 0}, "keep_weights: expected a whole number of at least 1, got 0"),
    ],
)
def test_options_that_contradict_each_other_are_told(tmp_path, root, change, message):
    with pytest.raises(UserError, match=re.escape(message)):
        config.load(write_options(tmp_path, predictor_options(root, **change)))


def test_testing_on_what_is_trained_on_is_warned_of(tmp_path, root):
    options = predictor_options(root)
    assert config.load(write_options(tmp_path, options)).warnings == []
    options["datasets"]["val"]["list_file"] = options["datasets"]["train"]["list_file"]
    (warning,) = config.load(write_options(tmp_path, options)).warnings
    assert warning.startswith("datasets.val shares frames with datasets.train, so that the network is measured on what")
