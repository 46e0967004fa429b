"""BasicSR's option files of recurrent networks: read without a mistake, paths aside."""

import pytest
import torch
import yaml
from options_files import mistakes

from vsr import config

ROOTS = {"dataroot_gt": "datasets/gt", "dataroot_lq": "datasets/lq"}
LOADER = {"num_worker_per_gpu": 6, "batch_size_per_gpu": 4, "dataset_enlarge_ratio": 200, "prefetch_mode": None}
DISK = {"io_backend": {"type": "disk"}}
AUGMENTED = {"interval_list": [1], "random_reverse": False, "use_hflip": True, "use_rot": True}
REDS = {
    "name": "REDS",
    "type": "REDSRecurrentDataset",
    **ROOTS,
    "meta_info_file": "basicsr/data/meta_info/meta_info_REDS_GT.txt",
    "val_partition": "REDS4",
    "test_mode": False,
    **DISK,
    "num_frame": 15,
    "gt_size": 256,
    **AUGMENTED,
    **LOADER,
}
VIMEO = {
    "name": "Vimeo90K",
    "type": "Vimeo90KRecurrentDataset",
    **ROOTS,
    "meta_info_file": "basicsr/data/meta_info/meta_info_Vimeo90K_train_GT.txt",
    **DISK,
    "num_frame": -1,
    "gt_size": 256,
    **AUGMENTED,
    "flip_sequence": True,
    **LOADER,
}
CLIPS = {"type": "VideoRecurrentTestDataset", **ROOTS, "cache_data": True, **DISK, "num_frame": -1}
REDS4, VID4 = {"name": "REDS4", **CLIPS}, {"name": "Vid4", **CLIPS}
SEPTUPLETS = {
    "name": "Vimeo90K",
    "type": "VideoTestVimeo90KDataset",
    **ROOTS,
    "meta_info_file": "basicsr/data/meta_info/meta_info_Vimeo90K_test_GT.txt",
    "cache_data": False,
    **DISK,
    "num_frame": 7,
}
SPYNET = "experiments/pretrained_models/flownet/spynet_sintel_final-3d2a1287.pth"
BASICVSR = {"type": "BasicVSR", "num_feat": 64, "num_block": 30, "spynet_path": SPYNET}
ICONVSR = {
    "type": "IconVSR",
    "num_feat": 64,
    "num_block": 30,
    "keyframe_stride": 5,
    "temporal_padding": 2,
    "spynet_path": SPYNET,
    "edvr_path": "experiments/pretrained_models/BasicVSR/EDVR_REDS_pretrained_for_IconVSR-f62a2f1e.pth",
}
BASICVSRPP = {
    "type": "BasicVSRPlusPlus",
    "mid_channels": 64,
    "num_blocks": 7,
    "is_low_res_input": True,
    "spynet_path": SPYNET,
}


def metrics(y):
    return {kind: {"type": f"calculate_{kind}", "crop_border": 0, "test_y_channel": y} for kind in ("psnr", "ssim")}


def train(data, val, network, y=False, lr=2e-4, iterations=300000, flow_lr_mul=0.125, **more):
    return {
        "model_type": "VideoRecurrentModel",
        "scale": 4,
        "num_gpu": "auto",
        "manual_seed": 0,
        "datasets": {"train": data, "val": val},
        "network_g": network,
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "ema_decay": 0.999,
            "optim_g": {"type": "Adam", "lr": lr, "weight_decay": 0, "betas": [0.9, 0.99]},
            "scheduler": {
                "type": "CosineAnnealingRestartLR",
                "periods": [iterations],
                "restart_weights": [1],
                "eta_min": 1e-7,
            },
            "total_iter": iterations,
            "warmup_iter": -1,
            "fix_flow": 5000,
            "flow_lr_mul": flow_lr_mul,
            "pixel_opt": {"type": "CharbonnierLoss", "loss_weight": 1.0, "reduction": "mean"},
        },
        "val": {"val_freq": 5e3, "save_img": False, "metrics": metrics(y)},
        "logger": {
            "print_freq": 100,
            "save_checkpoint_freq": 5e3,
            "use_tb_logger": True,
            "wandb": {"project": None, "resume_id": None},
        },
        "dist_params": {"backend": "nccl", "port": 29500},
        "find_unused_parameters": True,
        **more,
    }


def only_tests(data, network, y=False, **val):
    return {
        "model_type": "VideoRecurrentModel",
        "scale": 4,
        "num_gpu": 1,
        "manual_seed": 0,
        "datasets": {"test_1": data},
        "network_g": network,
        "path": {"pretrain_network_g": "experiments/pretrained_models/network.pth", "strict_load_g": True},
        "val": {"save_img": True, "suffix": None, "metrics": metrics(y), **val},
    }


def wide(network):
    return {**network, "temporal_padding": 3}


FLIPPED = {"flip_seq": True, "center_frame_only": True}
PLUS = {**REDS, "num_frame": 30, "batch_size_per_gpu": 1, "dataset_enlarge_ratio": 1}
OLD = {**REDS, "use_flip": True, "use_shuffle": True}
del OLD["use_hflip"]
FILES = {
    "train BasicVSR REDS": train(REDS, REDS4, BASICVSR),
    "train IconVSR REDS": train(REDS, REDS4, ICONVSR, num_gpu=2),
    "train BasicVSR Vimeo90K": train(VIMEO, VID4, BASICVSR, y=True),
    "train IconVSR Vimeo90K": train(VIMEO, VID4, wide(ICONVSR), y=True),
    "train BasicVSRPP REDS": train(PLUS, REDS4, BASICVSRPP, lr=1e-4, iterations=600000, flow_lr_mul=0.25),
    "train IconVSR REDS, first version": train(OLD, REDS4, ICONVSR, model_type="BasicVSRModel"),
    "test BasicVSR REDS": only_tests(REDS4, BASICVSR),
    "test IconVSR REDS": only_tests(REDS4, ICONVSR),
    "test BasicVSR Vimeo90K": only_tests(SEPTUPLETS, BASICVSR, y=True, **FLIPPED),
    "test IconVSR Vimeo90K": only_tests(SEPTUPLETS, wide(ICONVSR), y=True, **FLIPPED),
}


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_right(tmp_path, name):
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump({"name": "stock", **FILES[name]}))
    need = "train" if name.startswith("train") else "test"
    options = config.load(file, need=need, missing_data="note")
    parts = options.path.pretrained()
    if need == "test":
        assert set(parts) == {""}
        assert options.val.flip_seq is options.val.center_frame_only is ("Vimeo90K" in name)
        return
    num_frames = options.datasets["train"].spec.num_frames
    assert num_frames == (14 if "Vimeo90K" in name else 30 if "PP" in name else 15)  # septuplets are mirrored
    has_edvr = "IconVSR" in name
    assert {part: weights.file for part, weights in parts.items()} == {
        "spynet": SPYNET,
        **({"edvr": ICONVSR["edvr_path"]} if has_edvr else {}),
    }
    rules = [(rule.match, rule.lr_mul, rule.from_iter) for rule in options.train.parameters]
    assert rules == [("spynet", 0.25 if "PP" in name else 0.125, None), ("spynet|edvr", None, 5000)]
    with torch.device("meta"):
        assert options.network_g().spec.reads == "clip"


def test_mmagics_spellings_of_the_weights_are_read(tmp_path):
    tree = train(REDS, REDS4, {**BASICVSR, "spynet_pretrained": "a.pth", "spynet_path": None})
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump({"name": "stock", **tree}))
    parts = config.load(file, missing_data="note").path.pretrained()
    assert {part: weights.file for part, weights in parts.items()} == {"spynet": "a.pth"}


def test_a_flow_network_that_is_not_there_cannot_be_fixed(tmp_path):
    tree = train(REDS, REDS4, {"type": "EDVR"})
    text = mistakes(tmp_path, {"name": "stock", **tree}, missing_data="note")
    assert "train.fix_flow: 'spynet|edvr' matches no parameter of EDVR" in text
