"""BasicSR's EDVR option files, in the spellings of its releases: read without a mistake, paths aside."""

import pytest
import torch
import yaml

from vsr import config

REDS = {
    "name": "REDS",
    "type": "REDSDataset",
    "dataroot_gt": "datasets/REDS/train_sharp",
    "dataroot_lq": "datasets/REDS/train_sharp_bicubic",
    "dataroot_flow": None,
    "meta_info_file": "basicsr/data/meta_info/meta_info_REDS_GT.txt",
    "val_partition": "REDS4",
    "io_backend": {"type": "disk"},
    "num_frame": 5,
    "gt_size": 256,
    "interval_list": [1],
    "random_reverse": False,
    "use_shuffle": True,
    "num_worker_per_gpu": 3,
    "batch_size_per_gpu": 4,
    "dataset_enlarge_ratio": 200,
    "prefetch_mode": None,
}
REDS4 = {
    "name": "REDS4",
    "type": "VideoTestDataset",
    "dataroot_gt": "datasets/REDS/train_sharp",
    "dataroot_lq": "datasets/REDS/train_sharp_bicubic",
    "meta_info_file": "basicsr/data/meta_info/meta_info_REDS4_test_GT.txt",
    "io_backend": {"type": "disk"},
    "cache_data": False,
    "num_frame": 5,
    "padding": "reflection_circle",
}
EDVR_M = {
    "type": "EDVR",
    "num_in_ch": 3,
    "num_out_ch": 3,
    "num_feat": 64,
    "num_frame": 5,
    "deformable_groups": 8,
    "num_extract_block": 5,
    "num_reconstruct_block": 10,
    "center_frame_idx": None,
    "hr_in": False,
    "with_predeblur": False,
    "with_tsa": True,
}
EDVR_L = {**EDVR_M, "num_feat": 128, "num_reconstruct_block": 40}
PSNR = {"psnr": {"type": "calculate_psnr", "crop_border": 0, "test_y_channel": False}}
TRAIN = {
    "optim_g": {"type": "Adam", "lr": 4e-4, "weight_decay": 0, "betas": [0.9, 0.99]},
    "scheduler": {
        "type": "CosineAnnealingRestartLR",
        "periods": [50000, 100000, 150000, 150000, 150000],
        "restart_weights": [1, 0.5, 0.5, 0.5, 0.5],
        "eta_min": 1e-7,
    },
    "total_iter": 600000,
    "warmup_iter": -1,
    "tsa_iter": 50000,
    "dcn_lr_mul": 1,
    "pixel_opt": {"type": "CharbonnierLoss", "loss_weight": 1.0, "reduction": "sum"},
}
REST = {
    "val": {"val_freq": 5e3, "save_img": False, "metrics": PSNR},
    "logger": {
        "print_freq": 100,
        "save_checkpoint_freq": 5e3,
        "use_tb_logger": True,
        "wandb": {"project": None, "resume_id": None},
    },
    "dist_params": {"backend": "nccl", "port": 29500},
    "find_unused_parameters": True,
}
OLD = {  # 1.0 to 1.2
    "model_type": "EDVRModel",
    "num_gpu": 8,
    "datasets": {"train": {**REDS, "use_flip": True, "use_rot": True}, "val": REDS4},
    "path": {"pretrain_model_g": "experiments/101/models/net_g_600000.pth", "strict_load": False, "resume_state": None},
}
NEW = {  # 1.3 on
    "model_type": "EDVRModel",
    "num_gpu": "auto",
    "datasets": {"train": {**REDS, "use_hflip": True, "use_rot": True}, "val": REDS4},
    "path": {"pretrain_network_g": None, "strict_load_g": False, "resume_state": None},
}
NEWER_VAL = {"val_freq": 5e3, "metrics": {"psnr": {**PSNR["psnr"], "better": "higher"}}}
TESTS = {"save_img": True, "suffix": None, "metrics": PSNR}


def only_tests(dataset, network, gpu_ids=(0, 1), **more):
    tree = {
        "model_type": "EDVRModel",
        "gpu_ids": [0, 1],
        "set_CUDA_VISIBLE_DEVICES": True,
        "datasets": {"test": dataset},
    }
    path = {"pretrain_model_g": "experiments/pretrained_models/EDVR.pth", "strict_load": True}
    return tree | {"network_g": network, "path": path, "val": TESTS, "scale": 4} | more


DEBLUR = {**EDVR_L, "hr_in": True, "with_predeblur": True}
VIMEO = {**REDS4, "type": "VideoTestVimeo90KDataset", "name": "Vimeo90K-Test", "num_frame": 7}
VID4 = {key: value for key, value in REDS4.items() if key != "meta_info_file"} | {"name": "Vid4", "num_frame": 7}
WITHOUT_TSA = {**TRAIN, "tsa_iter": None}
EMA_MISPLACED = {**EDVR_L, "ema_decay": 0.999}
FILES = {
    "train EDVR_M": {**OLD, **REST, "network_g": EDVR_M, "train": TRAIN},
    "train EDVR_M woTSA": {**OLD, **REST, "network_g": {**EDVR_M, "with_tsa": False}, "train": WITHOUT_TSA},
    "train EDVR_L": {**NEW, **REST, "network_g": EMA_MISPLACED, "train": TRAIN},
    "train EDVR_L woTSA": {**NEW, **REST, "network_g": {**EMA_MISPLACED, "with_tsa": False}, "train": WITHOUT_TSA},
    "train newer metrics": {**NEW, **REST, "network_g": EDVR_M, "train": TRAIN, "val": NEWER_VAL},
    "test EDVR_M REDS": only_tests(REDS4, EDVR_M),
    "test EDVR_L Vid4": only_tests(VID4, {**EDVR_L, "num_frame": 7}, manual_seed=0),
    "test EDVR_L Vimeo90K": only_tests(VIMEO, {**EDVR_L, "num_frame": 7}),
    "test EDVR_L SRblur": only_tests(REDS4, {**EDVR_L, "with_predeblur": True}),
    "test EDVR_L deblur": only_tests({**REDS4, "padding": "replicate"}, DEBLUR, scale=1),
}


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_right(tmp_path, name):
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump({"name": "stock", "scale": 4, **FILES[name]}))
    options = config.load(file, need="train" if name.startswith("train") else "test", missing_data="note")
    if "ema_decay" in FILES[name]["network_g"]:
        assert options.train.ema_decay == 0.999  # it stands under network_g by mistake; BasicSR itself cannot start
    if options.train is not None:
        assert options.val.val_freq == 5000
        assert options.datasets["train"].settings["use_hflip"] is True
    with torch.device("meta"):
        assert options.network_g().num_frame == FILES[name]["network_g"]["num_frame"]
