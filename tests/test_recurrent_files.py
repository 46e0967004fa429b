"""BasicSR's option files of recurrent networks, made anew from their keys, need no change but of paths."""

import copy

import pytest
import yaml

from vsr import config

TRAINING = yaml.safe_load("""
name: BasicVSR_REDS
model_type: VideoRecurrentModel
scale: 4
num_gpu: auto
manual_seed: 0
datasets:
  train:
    {name: REDS, type: REDSRecurrentDataset, dataroot_gt: GT, dataroot_lq: LQ/X4, meta_info_file: LIST,
     val_partition: REDS4, test_mode: false, io_backend: {type: disk}, num_frame: 15, gt_size: 256, interval_list: [1],
     random_reverse: false, use_hflip: true, use_rot: true, num_worker_per_gpu: 6, batch_size_per_gpu: 4,
     dataset_enlarge_ratio: 200, prefetch_mode: ~}
  val:
    {name: REDS4, type: VideoRecurrentTestDataset, dataroot_gt: GT, dataroot_lq: LQ, cache_data: true,
     io_backend: {type: disk}, num_frame: -1}
network_g: {type: BasicVSR, num_feat: 64, num_block: 30, spynet_path: spynet.pth}
path: {pretrain_network_g: ~, strict_load_g: true, resume_state: ~}
train:
  ema_decay: 0.999
  optim_g: {type: Adam, lr: 2.0e-4, weight_decay: 0, betas: [0.9, 0.99]}
  scheduler: {type: CosineAnnealingRestartLR, periods: [300000], restart_weights: [1], eta_min: 1.0e-7}
  total_iter: 300000
  warmup_iter: -1
  fix_flow: 5000
  flow_lr_mul: 0.125
  pixel_opt: {type: CharbonnierLoss, loss_weight: 1.0, reduction: mean}
val:
  val_freq: 5.0e3
  save_img: false
  metrics: {psnr: {type: calculate_psnr, crop_border: 0, test_y_channel: false}}
logger:
  {print_freq: 100, save_checkpoint_freq: 5.0e3, use_tb_logger: true, wandb: {project: ~, resume_id: ~}}
dist_params: {backend: nccl, port: 29500}
find_unused_parameters: true
""")


def loaded(folder, tree, need="train"):
    (folder / "options.yml").write_text(yaml.safe_dump(tree))
    return config.load(folder / "options.yml", need=need, missing_data="note")


def test_basicvsr_on_reds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = loaded(tmp_path, TRAINING)
    assert {rule.match: (rule.lr_mul, rule.from_iter) for rule in options.train.parameters}["spynet"] == (0.125, None)
    assert 5000 in [rule.from_iter for rule in options.train.parameters]
    assert options.path.pretrained()["spynet"].file == "spynet.pth"


def test_iconvsr_on_vimeo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = copy.deepcopy(TRAINING)
    train_set = tree["datasets"]["train"]
    for key in ("val_partition", "test_mode", "interval_list"):
        del train_set[key]
    train_set |= {"type": "Vimeo90KRecurrentDataset", "num_frame": -1, "flip_sequence": True}
    tree["network_g"] |= {"type": "IconVSR", "keyframe_stride": 5, "temporal_padding": 3, "edvr_path": "edvr.pth"}
    options = loaded(tmp_path, tree)
    assert options.datasets["train"].spec.num_frames == 14
    assert set(options.path.pretrained()) == {"spynet", "edvr"}


@pytest.mark.parametrize("test_set", ["VideoRecurrentTestDataset", "VideoTestVimeo90KDataset"])
def test_tests_of_recurrent_networks(tmp_path, monkeypatch, test_set):
    monkeypatch.chdir(tmp_path)
    tree = {key: copy.deepcopy(TRAINING[key]) for key in ("name", "model_type", "scale", "num_gpu", "manual_seed")}
    roots = {"dataroot_gt": "GT", "dataroot_lq": "LQ", "io_backend": {"type": "disk"}, "cache_data": False}
    tree["datasets"] = {"test_1": {"name": "Vimeo90K", "type": test_set, **roots}}
    if test_set == "VideoTestVimeo90KDataset":
        tree["datasets"]["test_1"] |= {"meta_info_file": "LIST", "num_frame": 7}
    tree["network_g"] = {"type": "BasicVSR", "num_feat": 64, "num_block": 30}
    tree["path"] = {"pretrain_network_g": "BasicVSR.pth", "strict_load_g": True}
    tree["val"] = {**TRAINING["val"], "save_img": True, "suffix": None, "flip_seq": True, "center_frame_only": True}
    options = loaded(tmp_path, tree, need="test")
    assert options.val.flip_seq and options.val.center_frame_only
