"""Tests whose results make reports: networks without training on small clips."""

import csv
import json
import re
from pathlib import Path

import torch
from synthetic import make_clips
from training import changed, write_options

from vsr.test import main

HOSTILE = "<b>&\"'<!--"  # names of clips; folders cannot hold a slash


def small_test(folder, name="first", sets=1, gain=1.0, has_gt=True, num_frames=5, **changes):
    """Tests a network that repeats pixels, in ``folder``; returns its folder of results."""
    clips_folder = folder / "clips"
    if not clips_folder.exists():
        made = make_clips(clips_folder, num_clips=2, num_frames=num_frames, gt_size=(48, 64))
        for root in (made.gt, made.lq):
            (root / "001").rename(root / HOSTILE)
    torch.save({"params": {"gain": torch.tensor(gain)}}, folder / f"{name}.pth")
    entry = {"type": "VideoTestDataset", "dataroot_lq": str(clips_folder / "train_sharp_bicubic/X4"), "num_frame": 3}
    entry |= {"dataroot_gt": str(clips_folder / "train_sharp")} if has_gt else {}
    options = {
        "name": name,
        "num_gpu": 0,
        "imports": ["tiny_networks"],
        "datasets": {f"test_{n}": {**entry, "name": f"set{n}", "num_worker_per_gpu": 0} for n in range(sets)},
        "network_g": {"type": "RepeatedPixels", "scale": 4},
        "path": {"pretrain_network_g": str(folder / f"{name}.pth")},
        "val": {"pbar": False, "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}}},
    }
    assert main(["-opt", str(write_options(folder, changed(options, changes)))]) == 0
    return Path("results") / name


def data_of(page):
    """Returns the data in a page, for its script."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])


def scores_of(results, method="network", clip="000"):
    """Returns the PSNR of the frames of a clip, by name, in ``metrics.csv``."""
    with (results / "metrics.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if (row["method"], row["clip"]) == (method, clip)]
    return {row["frame"]: float(row["psnr"]) for row in rows}
