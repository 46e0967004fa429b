"""The network that ships with the package."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import vsr
from vsr.archs import EDVR
from vsr.data.degrade.imresize import imresize
from vsr.engine.saving.weights import load_weights
from vsr.utils.weight_files import read_weights

FILE = Path(vsr.__file__).parent / "pretrained" / "edvr_small.safetensors"


def test_it_is_small_and_describes_itself():
    assert FILE.stat().st_size < 4 * 2**20
    with safe_open(FILE, "pt") as content:
        about = content.metadata()
    assert json.loads(about["vsr.network"])["type"] == "EDVR" and about["vsr.scale"] == "4"
    assert "CC BY" in about["vsr.licence"]
    card = FILE.with_suffix(".md").read_text()
    assert about["vsr.iteration"] in card and "bicubic" in card


def test_it_restores_edges_that_bicubic_blurs():
    with safe_open(FILE, "pt") as content:
        settings = json.loads(content.metadata()["vsr.network"])
    settings.pop("type")
    network = EDVR(**settings).eval()
    load_weights(network, read_weights(FILE), FILE)
    rows, columns = torch.meshgrid(torch.arange(128), torch.arange(160), indexing="ij")
    gt = ((0.7 * rows + columns) % 40 < 20).float().expand(3, -1, -1) * 0.6 + 0.2
    lq = imresize(gt, 0.25)
    with torch.no_grad():
        restored = network(lq.expand(1, 5, -1, -1, -1))[0]
    inside = (..., slice(16, -16), slice(16, -16))
    errors = [(image - gt)[inside].square().mean() for image in (restored, imresize(lq, 4.0))]
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.slow
def test_it_beats_bicubic_on_real_frames(tmp_path, monkeypatch):
    from load_script import load_script

    script = load_script("prepare_demo")
    monkeypatch.chdir(tmp_path)
    script.main(["--to", str(tmp_path / "demo"), "--source", "photos"])
    from vsr.test import main

    options = Path(vsr.__file__).parents[1] / "options/pretrained/edvr_small.yml"
    demo = {"dataroot_gt": "train_sharp", "dataroot_lq": "train_sharp_bicubic/X4"}
    demo |= {"meta_info_file": "meta_info_test.txt"}
    changes = [f"datasets.test_film.{key}={tmp_path / 'demo' / name}" for key, name in demo.items()]
    settings = [part for change in [*changes, "datasets.test_unseen=~"] for part in ("--set", change)]
    assert main(["-opt", str(options), "--weights", str(FILE), *settings]) == 0
    scores = json.loads((tmp_path / "results/edvr_small/metrics.json").read_text())["datasets"]["film"]["scores"]
    assert scores["network"]["mean"]["psnr"] > scores["bicubic"]["mean"]["psnr"] + 0.3
