"""Options files to be written, spoilt and read."""

import pytest
import yaml
from synthetic import SyntheticSet

from vsr import config
from vsr.utils.errors import UserError


def right_options(clips: SyntheticSet) -> dict:
    """Returns options that are right, as a mapping."""
    roots = {"dataroot_gt": str(clips.gt), "dataroot_lq": str(clips.lq), "meta_info_file": str(clips.meta)}
    return {
        "name": "right",
        "scale": 4,
        "datasets": {
            "train": {"type": "REDSDataset", **roots, "gt_size": 32, "val_partition": "none", "batch_size_per_gpu": 2},
            "val": {"name": "clips", "type": "VideoTestDataset", **roots},
        },
        "network_g": {"type": "EDVR", "num_feat": 8},
        "train": {
            "total_iter": 4,
            "optim_g": {"type": "Adam", "lr": 1e-4},
            "pixel_opt": {"type": "CharbonnierLoss"},
        },
    }


def write(folder, tree, name="options.yml"):
    file = folder / name
    file.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
    return file


def mistakes(folder, tree, **kwargs):
    with pytest.raises(UserError) as caught:
        config.load(write(folder, tree), **kwargs)
    return str(caught.value)


def change(tree, path, value):
    """Sets a.b.c, or removes it for the value ``del``."""
    *sections, key = path.split(".")
    for section in sections:
        tree = tree[section]
    if value == "del":
        del tree[key]
    else:
        tree[key] = value
