"""Option files in the shape of EDVR's code of 2019: read as they are, paths aside."""

import pytest
from options_files import change, mistakes, write

from vsr import config


@pytest.fixture
def first_code():
    """Returns options as the first code had them; every key, no file of its authors."""
    return {
        "name": "first",
        "use_tb_logger": False,
        "model": "video_base",
        "distortion": "sr",
        "scale": 4,
        "gpu_ids": [0, 1, 2, 3],
        "datasets": {
            "train": {
                "name": "clips",
                "mode": "REDS",
                "interval_list": [1, 2],
                "random_reverse": True,
                "border_mode": False,
                "dataroot_GT": "data/gt.lmdb",
                "dataroot_LQ": "data/lq.lmdb",
                "cache_keys": "keys.pkl",
                "N_frames": 5,
                "use_shuffle": True,
                "n_workers": 1,
                "batch_size": 24,
                "GT_size": 128,
                "LQ_size": 32,
                "use_flip": True,
                "use_rot": False,
                "color": "RGB",
            },
            "val": {
                "name": "few",
                "mode": "video_test",
                "dataroot_GT": "data/few/GT",
                "dataroot_LQ": "data/few/LQ",
                "cache_data": True,
                "N_frames": 5,
                "padding": "new_info",
            },
        },
        "network_G": {
            "which_model_G": "EDVR",
            "nf": 16,
            "nframes": 5,
            "groups": 4,
            "front_RBs": 2,
            "back_RBs": 3,
            "predeblur": True,
            "HR_in": False,
            "w_TSA": False,
        },
        "path": {"pretrain_model_G": "none.pth", "strict_load": False, "resume_state": None},
        "train": {
            "lr_G": 2e-4,
            "lr_scheme": "CosineAnnealingLR_Restart",
            "beta1": 0.8,
            "beta2": 0.95,
            "niter": 500,
            "ft_tsa_only": 40,
            "warmup_iter": 10,
            "T_period": [100, 200, 200],
            "restarts": [100, 300],
            "restart_weights": [0.5, 0.25],
            "eta_min": 1e-6,
            "pixel_criterion": "cb",
            "pixel_weight": 0.5,
            "val_freq": 50.0,
            "manual_seed": 7,
        },
        "logger": {"print_freq": 10, "save_checkpoint_freq": 50.0},
    }


def resolved(folder, tree):
    return config.load(write(folder, tree), missing_data="note").resolved


def test_every_key_is_read(tmp_path, first_code):
    options = config.load(write(tmp_path, first_code), missing_data="note")
    assert options.notes[0] == "a file of EDVR's code of 2019: 34 keys are read in BasicSR's spelling"
    assert options.trainer.__name__ == "ScratchTrainer" and options.manual_seed == 7 and options.num_gpu == 4
    network, train, data = options.resolved.network_g, options.resolved.train, options.resolved.datasets
    sizes = ("num_feat", "num_frame", "deformable_groups", "num_extract_block", "num_reconstruct_block")
    assert [network[key] for key in sizes] == [16, 5, 4, 2, 3]
    assert (network.with_predeblur, network.hr_in, network.with_tsa) == (True, False, False)
    assert (train.optim_g.type, train.optim_g.lr, train.optim_g.betas) == ("Adam", 2e-4, [0.8, 0.95])
    assert train.scheduler == {
        "type": "CosineAnnealingRestartLR", "periods": [100, 200, 200], "restart_weights": [1, 0.5, 0.25],
        "eta_min": 1e-6,
    }  # fmt: skip
    pixel = {"type": "CharbonnierLoss", "loss_weight": 0.5, "reduction": "sum", "eps": 1e-6}
    assert train.losses.pixel == pixel, "the loss was a sum with ε² = 1e-6"
    assert (train.total_iter, train.warmup_iter) == (500, 10)
    assert [(rule.match, rule.from_iter) for rule in train.parameters] == [("", 40), ("fusion", 0)]
    assert (data.train.type, data.train.batch_size_per_gpu, data.train.gt_size) == ("REDSDataset", 6, 128)
    assert data.train.val_partition == "REDS4" and data.train.meta_info_file.endswith("meta_info_REDS_GT.txt")
    assert (data.train.io_backend.type, data.val.io_backend.type) == ("lmdb", "disk")
    assert (data.val.type, data.val.padding, data.val.cache_data) == ("VideoTestDataset", "reflection_circle", True)
    assert (options.val.val_freq, options.logger.use_tb_logger) == (50, False)
    assert options.path.pretrain_network_g == "none.pth" and options.path.strict_load_g is False


def test_steps_and_other_losses_are_read(tmp_path, first_code):
    for key in ("T_period", "eta_min", "restarts", "restart_weights", "ft_tsa_only"):
        del first_code["train"][key]
    steps = {"lr_scheme": "MultiStepLR", "lr_steps": [100, 200], "lr_gamma": 0.5, "pixel_criterion": "l1"}
    first_code["train"] |= {**steps, "weight_decay_G": 1e-5}
    train = resolved(tmp_path, first_code).train
    assert (train.scheduler.type, train.scheduler.milestones, train.scheduler.gamma) == (
        "MultiStepRestartLR", [100, 200], 0.5
    )  # fmt: skip
    assert (train.losses.pixel.type, train.losses.pixel.reduction) == ("L1Loss", "sum")
    assert train.optim_g.weight_decay == 1e-5 and train.parameters == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("network_G.nf", "wide", "network_G.nf: expected a whole number, got 'wide' (text)"),
        ("network_G.nb", 16, "network_G.nb: unknown key"),
        ("network_G.which_model_G", "DUF_52L", "network_G.which_model_G: unknown arch 'DUF_52L'"),
        ("train.lr_G", "fast", "train.lr_G: expected a number, got 'fast' (text)"),
        ("train.pixel_criterion", "ssim", "train.pixel_criterion: unknown loss 'ssim'"),
        ("train.lr_scheme", "Cyclic", "train.lr_scheme: unknown scheduler 'Cyclic'"),
        ("train.niter", 0, "train.niter: expected a whole number of at least 1, got 0"),
        ("train.T_period", [100, "a"], "train.T_period[1]: expected a whole number, got 'a' (text)"),
        ("train.restarts", [100], "train.restarts: [100], but the periods of train.T_period end at [100, 300]"),
        (
            "datasets.train.GT_size",
            100,
            "datasets.train.LQ_size: 32, but GT_size is 100 and scale 4, which makes it 2",
        ),
        ("datasets.train.color", "gray", "datasets.train.color: unknown key"),
        ("datasets.train.border_mode", True, "datasets.train.border_mode: unknown key"),
        ("datasets.train.mode", "Youku", "datasets.train.mode: unknown dataset 'Youku'"),
        ("model", "video_gan", "model: unknown trainer 'video_gan'"),
    ],
)
def test_a_mistake_quotes_the_key_of_2019(tmp_path, first_code, path, value, message):
    change(first_code, path, value)
    assert message in mistakes(tmp_path, first_code, missing_data="note")


def test_a_file_of_early_2020_is_refused_key_by_key(tmp_path, tree):
    tree["network_g"]["which_model_g"] = tree["network_g"].pop("type")
    tree["train"] = {"lr_g": 4e-4, "lr_scheme": "CosineAnnealingRestartLR", "beta1": 0.9, "niter": 600000}
    text = mistakes(tmp_path, tree)
    early = "unknown key: the spelling of BasicSR's files of early 2020, which are not translated; write"
    for line in (
        f"train.lr_g: {early} optim_g: {{type: Adam, lr: 4e-4}}",
        f"train.niter: {early} total_iter",
        f"train.lr_scheme: {early} scheduler.type",
        f"train.beta1: {early} optim_g.betas: [0.9, 0.99]",
    ):
        assert line in text
    assert "network_g.type: missing" in text
