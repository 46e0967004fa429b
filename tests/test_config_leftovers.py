"""Keys that BasicSR's files hold and vsr has not: a note where they change nothing, else what is missing."""

import pytest
from options_files import change, mistakes, write
from synthetic import SyntheticSet

from vsr import config, registry

LEFT_OVER = {
    "network_d": None,
    "use_static_graph": True,
    "datasets.train.persistent_workers": True,
    "datasets.train.test_mode": False,
    "datasets.train.cache_data": False,
    "datasets.train.mean": None,
    "datasets.val.use_flip": True,
    "datasets.val.use_rot": True,
    "datasets.val.val_partition": "REDS4",
    "datasets.val.interval_list": [1],
    "datasets.val.dataroot_flow": None,
    "datasets.val.gt_size": 256,
    "path.pretrain_network_d": None,
    "path.strict_load_d": True,
    "train.perceptual_opt": None,
    "train.gan_opt": None,
    "train.optim_d": None,
    "train.net_d_iters": 1,
    "train.net_d_init_iters": 0,
    "train.use_grad_clip": False,
    "val.grids": False,
    "val.use_image": True,
}


@pytest.mark.parametrize("key", LEFT_OVER)
def test_a_key_that_changes_nothing_is_a_note(tmp_path, tree, key):
    tree |= {"path": {}, "val": {}}
    change(tree, key, LEFT_OVER[key])
    notes = config.load(write(tmp_path, tree)).notes
    assert [note for note in notes if note.startswith(f"{key} has no effect here")], notes


def test_a_file_that_only_tests_may_name_no_discriminator(tmp_path, tree):
    del tree["train"], tree["datasets"]["train"]
    tree |= {"network_d": None, "path": {"pretrain_network_d": None, "strict_load_d": None}}
    assert config.load(write(tmp_path, tree), need="test").train is None


NOT_VIMEOS = {
    "val_partition": "REDS4",
    "interval_list": [1],
    "dataroot_flow": None,
    "padding": "reflection_circle",
    "test_mode": False,
}


def test_keys_of_reds_change_nothing_on_vimeo(tmp_path, tree):
    roots = {key: value for key, value in tree["datasets"]["val"].items() if key.startswith("dataroot")}
    (tmp_path / "list.txt").write_text("00001/0001 7 (256,448,3)\n")
    vimeo = {"type": "Vimeo90KDataset", **roots, "meta_info_file": str(tmp_path / "list.txt"), "num_frame": 5}
    tree["datasets"] = {"train": {**vimeo, "gt_size": 32, **NOT_VIMEOS}}
    notes = config.load(write(tmp_path, tree), missing_data="note").notes
    assert [note.split()[0] for note in notes if "no effect" in note] == [
        *(
            f"datasets.train.{key}"
            for key in ("dataroot_flow", "test_mode", "val_partition", "padding", "interval_list")
        ),
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "network_d",
            {"type": "VGGStyleDiscriminator"},
            "network_d: unknown key: training against a discriminator needs `trainer: GANTrainer`",
        ),
        (
            "model_type",
            "ESRGANModel",
            "model_type: unknown trainer 'ESRGANModel': its losses are not built in; `trainer: GANTrainer` trains",
        ),
        ("train.style_opt", {"type": "P"}, "train.style_opt: unknown key: a style loss is not built"),
        ("train.gan_opt", {"type": "GANLoss"}, "train.gan_opt: unknown key: training against a discriminator needs"),
        (
            "train.use_grad_clip",
            True,
            "train.use_grad_clip: unknown key: the largest norm of the gradients is train",
        ),
        ("train.net_d_iters", 2, "train.net_d_iters: unknown key: training against a discriminator"),
        ("val.grids", True, "val.grids: unknown key"),
        ("datasets.train.persistent_workers", "x", "datasets.train.persistent_workers: unknown key"),
        ("datasets.train.mean", [0.5, 0.5, 0.5], "datasets.train.mean: unknown key"),
        ("datasets.train.color", "y", "datasets.train.color: unknown key"),
    ],
)
def test_a_value_that_would_change_something_is_a_mistake_that_names_the_feature(tmp_path, tree, key, value, message):
    tree["val"] = {}
    change(tree, key, value)
    assert f"  {message}" in mistakes(tmp_path, tree)


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("network_k", "network_k: unknown key; did you mean 'network_g', which is given already?\n"),
        (
            "datasets.train.gt_sise",
            "datasets.train.gt_sise: unknown key; did you mean 'gt_size', which is given already?\n",
        ),
        (
            "datasets.train.batch_size",
            "datasets.train.batch_size: unknown key; did you mean 'batch_size_per_gpu', which is given already?\n",
        ),
        ("datasets.val.batch_size", "datasets.val.batch_size: unknown key; did you mean 'batch_size_per_gpu'?\n"),
        ("network_g.num_feats", "network_g.num_feats: unknown key; did you mean 'num_feat', which is given already?\n"),
        ("train.total_iters", "train.total_iters: unknown key; did you mean 'total_iter', which is given already?\n"),
    ],
)
def test_a_hint_says_if_the_key_is_there(tmp_path, tree, key, line):
    change(tree, key, 1)
    assert f"  {line}" in mistakes(tmp_path, tree) + "\n"


def test_a_name_is_no_hint_for_quite_another(tmp_path, tree):
    change(tree, "datasets.train.type", "PairedImageDataset")
    assert "unknown dataset 'PairedImageDataset'; known:" in mistakes(tmp_path, tree)


@pytest.mark.parametrize("folder", ["basicsr/data/meta_info", "./meta_info", "/nowhere"])
def test_a_missing_list_that_the_project_has_is_named(tmp_path, clips: SyntheticSet, tree, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    change(tree, "datasets.train.meta_info_file", f"{folder}/meta_info_REDS_GT.txt")
    text = mistakes(tmp_path, tree)
    assert f"{folder.removeprefix('./')}/meta_info_REDS_GT.txt' does not exist; the project has it as /" in text
    change(tree, "datasets.train.meta_info_file", f"{folder}/other.txt")
    assert "other.txt' does not exist; `python scripts/generate_meta_info.py" in mistakes(tmp_path, tree)


OWN_NETWORK = """
from torch import nn
from vsr.contracts import Spec
from vsr.registry import register


@register("arch")
class Reader(nn.Module):
    def __init__(self, spynet_path: str = "") -> None:
        super().__init__()
        self.spec = Spec(scale=4)
        self.path = spynet_path

    def forward(self, lq):
        return lq[:, 1].repeat_interleave(4, 2).repeat_interleave(4, 3)
"""


def test_weights_of_parts_are_read_as_those_of_the_path(tmp_path, tree):
    tree["network_g"] |= {"spynet_path": "spynet.pth", "edvr_pretrained": "edvr.pth", "spynet_pretrained": None}
    notes = config.spellings.modernise(tree, {})
    assert tree["path"] == {"pretrain_network_g": {"edvr": "edvr.pth", "spynet": "spynet.pth"}}
    assert set(tree["network_g"]) == {"type", "num_feat"}
    assert "network_g.spynet_path is read as path.pretrain_network_g: {'spynet': 'spynet.pth'}" in notes
    tree["network_g"]["spynet_path"] = "spynet.pth"
    tree["path"] = {"pretrain_network_g": "whole.pth"}
    notes = config.spellings.modernise(tree, {})
    assert tree["path"] == {"pretrain_network_g": "whole.pth"}
    assert "network_g.spynet_path has no effect: path.pretrain_network_g holds the whole network" in notes


def test_the_flow_network_of_realbasicvsr_is_in_its_basicvsr(tmp_path, tree):
    tree["network_g"] = {"type": "RealBasicVSRNet", "spynet_pretrained": "spynet.pth"}
    config.spellings.modernise(tree, {})
    assert tree["path"] == {"pretrain_network_g": {"basicvsr.spynet": "spynet.pth"}}


def test_a_network_of_ones_own_keeps_its_options(tmp_path, tree, monkeypatch):
    (tmp_path / "own_reader.py").write_text(OWN_NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    tree |= {"imports": ["own_reader"], "network_g": {"type": "Reader", "spynet_path": "a.pth"}}
    options = config.load(write(tmp_path, tree), need="test")
    assert options.resolved.network_g.spynet_path == "a.pth" and options.path.pretrain_network_g is None


OWN_TRAINER = """
from vsr.engine.trainer import Trainer
from vsr.registry import register


@register("trainer")
class Untold(Trainer):
    def __init__(self, network, run, /, train: "Nowhere") -> None:
        super().__init__(network, run, train)
"""


def test_a_left_over_key_beside_a_broken_trainer_is_no_traceback(tmp_path, tree, monkeypatch):
    (tmp_path / "untold.py").write_text(OWN_TRAINER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_components", {kind: {**known} for kind, known in registry._components.items()})
    tree |= {"imports": ["untold"], "trainer": "Untold"}
    tree["train"]["gan_opt"] = None
    assert "trainer: Untold does not declare its options" in mistakes(tmp_path, tree)
