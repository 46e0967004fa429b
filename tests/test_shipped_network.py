"""The networks that ship with the package."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import vsr
from vsr.archs import EDVR, BasicVSR
from vsr.data.degrade.imresize import imresize
from vsr.engine.saving.weights import load_weights
from vsr.utils.weight_files import read_weights

FOLDER = Path(vsr.__file__).parent / "pretrained"
NETWORKS = {"edvr_small": EDVR, "basicvsr_small": BasicVSR}
each = pytest.mark.parametrize("name", NETWORKS)


def test_they_are_all_that_ships():
    assert {file.stem for file in FOLDER.glob("*.safetensors")} == set(NETWORKS)


@each
def test_it_is_small_and_describes_itself(name):
    file = FOLDER / f"{name}.safetensors"
    assert file.stat().st_size < 4 * 2**20
    with safe_open(file, "pt") as content:
        about = content.metadata()
    assert json.loads(about["vsr.network"])["type"] == NETWORKS[name].__name__ and about["vsr.scale"] == "4"
    assert "CC BY" in about["vsr.licence"]
    card = file.with_suffix(".md").read_text()
    assert about["vsr.iteration"] in card and "bicubic" in card


def shipped(name):
    file = FOLDER / f"{name}.safetensors"
    with safe_open(file, "pt") as content:
        settings = json.loads(content.metadata()["vsr.network"])
    settings.pop("type")
    network = NETWORKS[name](**settings).eval()
    load_weights(network, read_weights(file), file)
    return network


def edges():
    """A picture of edges (3, 128, 160), and its LQ."""
    rows, columns = torch.meshgrid(torch.arange(128), torch.arange(160), indexing="ij")
    gt = ((0.7 * rows + columns) % 40 < 20).float().expand(3, -1, -1) * 0.6 + 0.2
    return gt, imresize(gt, 0.25)


def error(image, gt):
    return (image - gt)[..., 16:-16, 16:-16].square().mean()


@each
def test_it_restores_edges_that_bicubic_blurs(name):
    gt, lq = edges()
    with torch.no_grad():
        restored = shipped(name)(lq.expand(1, 5, -1, -1, -1))[0]
    assert error(restored, gt) < 0.7 * error(imresize(lq, 4.0), gt)


@each
def test_16_bits_restore_as_well(name):
    gt, lq = edges()
    window, network, decibels = lq.expand(1, 5, -1, -1, -1), shipped(name), []
    for is_16bit in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=is_16bit):
            decibels.append(-10 * error(network(window)[0].float(), gt).log10())
    assert decibels[0] != decibels[1] and abs(decibels[0] - decibels[1]) < 0.02


@pytest.mark.slow
@each
def test_it_beats_bicubic_on_real_frames(name, tmp_path, monkeypatch):
    from load_script import load_script

    script = load_script("prepare_demo")
    monkeypatch.chdir(tmp_path)
    script.main(["--to", str(tmp_path / "demo"), "--source", "photos"])
    from vsr.test import main

    options = Path(vsr.__file__).parents[1] / "options/pretrained" / f"{name}.yml"
    weights = str(FOLDER / f"{name}.safetensors")
    demo = {"dataroot_gt": "train_sharp", "dataroot_lq": "train_sharp_bicubic/X4"}
    demo |= {"meta_info_file": "meta_info_test.txt"}
    changes = [f"datasets.test_film.{key}={tmp_path / 'demo' / part}" for key, part in demo.items()]
    settings = [part for change in [*changes, "datasets.test_unseen=~"] for part in ("--set", change)]
    assert main(["-opt", str(options), "--weights", weights, *settings]) == 0
    half = [*settings, "--set", "val.precision=bf16", "--set", "name=half"]
    assert main(["-opt", str(options), "--weights", weights, *half]) == 0
    scores, in_16_bits = (
        json.loads((tmp_path / f"results/{result}/metrics.json").read_text())["datasets"]["film"]["scores"]
        for result in (name, "half")
    )
    assert abs(in_16_bits["network"]["mean"]["psnr"] - scores["network"]["mean"]["psnr"]) < 0.02
    assert scores["network"]["mean"]["psnr"] > scores["bicubic"]["mean"]["psnr"] + 0.3
