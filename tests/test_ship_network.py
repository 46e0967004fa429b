import json

import pytest
import torch
from load_script import exit_code, load_script
from safetensors import safe_open
from training import small_options, write_options

script = load_script("ship_network")


@pytest.fixture
def trained(tmp_path, clips, monkeypatch, train):
    """The options file of a training that has ended."""
    monkeypatch.chdir(tmp_path)
    options = small_options(clips, train__total_iter=2)
    train(options)
    return write_options(tmp_path, options)


def test_a_network_gets_16_bits_its_description_and_a_card_with_the_scores_of_the_file(trained, tmp_path, capsys):
    assert exit_code(script, "-opt", str(trained), "--to", str(tmp_path / "shipped")) == 0
    file, card = tmp_path / "shipped/small.safetensors", (tmp_path / "shipped/small.md").read_text()
    with safe_open(file, "pt") as content:
        about = content.metadata()
        assert {content.get_tensor(name).dtype for name in content.keys()} == {torch.float16}  # noqa: SIM118
    assert json.loads(about["vsr.network"])["type"] == "EDVR"
    assert json.loads(about["vsr.degradation"]) == {"type": "bicubic"}
    means = json.loads((tmp_path / "results/small/metrics.json").read_text())["datasets"]["clips"]["scores"]
    assert f"| clips | mean | {means['network']['mean']['psnr']:.3f} | {means['bicubic']['mean']['psnr']:.3f} |" in card
    assert "2 iterations" in card


def test_a_network_that_is_too_large_is_refused(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "LARGEST", 1000)
    assert exit_code(script, "-opt", str(trained), "--to", str(tmp_path / "shipped")) == 2
    assert "expected at most 1,000: take fewer features" in capsys.readouterr().err


def test_without_a_training_it_says_so(tmp_path, clips, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert exit_code(script, "-opt", str(write_options(tmp_path, small_options(clips)))) == 2
    assert "experiments/small/models has no .safetensors: train" in capsys.readouterr().err
