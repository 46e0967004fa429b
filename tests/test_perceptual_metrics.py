"""LPIPS, DISTS and NIQE are pyiqa's: missing files are named before anything is restored; nothing is downloaded."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from synthetic import make_clips
from training import small_options, write_options

from vsr.metrics import perceptual, traits_of
from vsr.train import main as train
from vsr.utils.errors import UserError

METRICS = {
    "lpips": perceptual.calculate_lpips,
    "dists": perceptual.calculate_dists,
    "niqe": perceptual.calculate_niqe,
}


@pytest.fixture(autouse=True)
def nothing_loaded():
    perceptual.load.cache_clear()
    yield
    perceptual.load.cache_clear()


@pytest.fixture
def pyiqa(monkeypatch):
    """A package of this name; it returns how it was called."""
    calls = []

    class Model(torch.nn.Module):
        def forward(self, *images):
            calls.append(images)
            return torch.tensor(0.25)

    def create_metric(name, device, pretrained_model_path):
        calls.append((name, str(device), pretrained_model_path, torch.hub.get_dir()))
        return Model()

    module = ModuleType("pyiqa")
    module.create_metric = create_metric
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    monkeypatch.setattr(perceptual, "find_spec", lambda name: name)
    return calls


@pytest.mark.parametrize("name", METRICS)
def test_a_missing_package_is_named_with_its_command(monkeypatch, name):
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(UserError, match=rf"calculate_{name} needs the package pyiqa: pip install pyiqa"):
        METRICS[name](image, image)


@pytest.mark.parametrize("name", METRICS)
def test_missing_weights_are_named_with_their_source(pyiqa, tmp_path, name):
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(UserError) as told:
        METRICS[name](image, image, weights=str(tmp_path))
    for file in perceptual._FILES[name]:
        assert str(tmp_path / file) in str(told.value) and f"({file.rpartition('/')[2]})" in str(told.value)
    assert "huggingface.co/chaofengc/IQA-PyTorch-Weights" in str(told.value)
    assert not pyiqa, "nothing was loaded"


@pytest.mark.parametrize("name", METRICS)
def test_local_weights_are_loaded_once_and_images_are_rgb_of_a_range_of_1(pyiqa, tmp_path, name):
    for file in perceptual._FILES[name]:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    former = torch.hub.get_dir()
    image = np.zeros((8, 10, 3), np.uint8)
    image[..., 2] = 255  # red
    assert [METRICS[name](image, 255 - image, weights=str(tmp_path)) for _ in range(2)] == [0.25, 0.25]
    created, *calls = pyiqa
    assert created == (name, "cpu", str(tmp_path / perceptual._FILES[name][0]), str(tmp_path))
    assert torch.hub.get_dir() == former
    assert len(calls) == 2 and len(calls[0]) == (1 if name == "niqe" else 2)
    assert calls[0][0].shape == (1, 3, 8, 10) and calls[0][0].mean((0, 2, 3)).tolist() == [1, 0, 0]
    assert traits_of(METRICS[name]).lower_is_better


def test_a_training_is_refused_at_once_if_it_could_not_be_validated(tmp_path, monkeypatch):
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    clips = make_clips(tmp_path, num_clips=1, num_frames=3, gt_size=(32, 32))
    options = small_options(clips, val__metrics__lpips={"type": "calculate_lpips"})
    with pytest.raises(UserError, match="pip install pyiqa"):
        train(["-opt", str(write_options(tmp_path, options))])
    assert not list(tmp_path.rglob("*.pth"))
