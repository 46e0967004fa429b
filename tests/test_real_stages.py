"""The two stages of RealBasicVSR, with the files of the demo, on clips and with networks that are smaller still."""

from pathlib import Path

import pytest
import torch
from gan_cases import vgg19_file
from training import assert_same_weights, copy_until, log_of, rows, weights

from vsr.train import main

pytestmark = pytest.mark.usefixtures("in_tmp_path")
FILES = Path(__file__).parents[1] / "options" / "basicvsr"
SMALL = {
    "num_gpu": 0,
    "datasets.train.num_frame": 2,
    "datasets.train.gt_size": 48,
    "datasets.train.batch_size_per_gpu": 1,
    "datasets.train.num_worker_per_gpu": 0,
    "datasets.test": "~",
    "network_g.mid_channels": 4,
    "network_g.num_propagation_blocks": 1,
    "network_g.num_cleaning_blocks": 1,
    "logger.print_freq": 1,
    "logger.use_tb_logger": "false",
}


def train(stage, clips, *arguments, **settings):
    roots = {"datasets.train.dataroot_gt": clips.gt, "datasets.train.meta_info_file": clips.meta}
    changes = SMALL | roots | {key.replace("__", "."): value for key, value in settings.items()}
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    main(["-opt", str(FILES / f"demo_real_stage{stage}.yml"), *words, *arguments])


def test_the_second_stage_starts_from_the_firsts_average_and_resumes_exactly(tmp_path, clips):
    train(1, clips, train__total_iter=2, name="first")
    assert {name for _, name, _ in rows(tmp_path, "first")} >= {"train/loss/pixel", "train/loss/cleaning"}
    second = {
        "path__pretrain_network_g": tmp_path / "experiments/first/models/net_g_2.pth",
        "network_d__mid_channels": 4,
    }
    train(2, clips, name="still", train__optim_g__lr=0, train__total_iter=1, **second)
    assert_same_weights(
        {"": weights(tmp_path, "still", 1)["params"]}, {"": weights(tmp_path, "first", 2)["params_ema"]}
    )

    vgg = f"{{type: PerceptualLoss, weights: {vgg19_file(tmp_path / 'vgg19.pth')}, layer_weights: {{conv1_2: 1}}}}"
    second |= {"train__perceptual_opt": vgg, "train__total_iter": 3, "logger__save_checkpoint_freq": 1}
    train(2, clips, name="whole", **second)
    copy_until(tmp_path, "whole", "halves", 1)
    train(2, clips, "--auto_resume", name="halves", **second)
    assert "resumed from experiments/halves/training_states/1.state" in log_of(tmp_path, "halves")
    assert_same_weights(weights(tmp_path, "whole", 3), weights(tmp_path, "halves", 3))
    judges = [tmp_path / f"experiments/{name}/models/net_d_3.pth" for name in ("whole", "halves")]
    assert_same_weights(*(torch.load(file, weights_only=True) for file in judges))
    assert rows(tmp_path, "whole") == rows(tmp_path, "halves")
