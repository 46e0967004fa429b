"""Perceptual measures of the optional package ``pyiqa``. Their weights are local files: nothing is downloaded."""

from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vsr.metrics.traits import traits
from vsr.registry import register
from vsr.utils.errors import UserError

_TORCHVISION = "https://download.pytorch.org/models"
_PYIQA = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights"
# by metric: files below the folder of weights, as PyTorch's hub and pyiqa name them; the first is pyiqa's
_FILES = {
    "lpips": ("pyiqa/LPIPS_v0.1_alex-df73285e.pth", "checkpoints/alexnet-owt-7be5be79.pth"),
    "dists": ("pyiqa/DISTS_weights-f5e65c96.pth", "checkpoints/vgg16-397923af.pth"),
    "niqe": ("pyiqa/niqe_modelparameters.mat",),
}


@cache
def load(name: str, weights: str | None = None) -> Any:
    """Returns a measure of pyiqa, on the CPU; raises UserError if the package or a file of weights is missing."""
    if find_spec("pyiqa") is None:
        raise UserError(f"calculate_{name} needs the package pyiqa: pip install pyiqa")
    folder = Path(torch.hub.get_dir() if weights is None else weights)
    missing = [file for file in _FILES[name] if not (folder / file).is_file()]
    if missing:
        sources = [f"{_PYIQA if file.startswith('pyiqa') else _TORCHVISION} ({Path(file).name})" for file in missing]
        files = ", ".join(str(folder / file) for file in missing)
        raise UserError(
            f"calculate_{name} needs {files}: get them from {', '.join(sources)}, or name another `weights`"
        )
    former = torch.hub.get_dir()
    torch.hub.set_dir(folder)  # where torchvision finds the backbone
    try:
        model = import_module("pyiqa").create_metric(
            name, device=torch.device("cpu"), pretrained_model_path=str(folder / _FILES[name][0])
        )
    finally:
        torch.hub.set_dir(former)
    return model.eval()


@register("metric")
@traits(lower_is_better=True, prepare=partial(load, "lpips"), how="pyiqa's lpips: AlexNet, version 0.1")
def calculate_lpips(img: np.ndarray, img2: np.ndarray, /, weights: str | None = None) -> float:
    """Returns LPIPS of two images (h, w, 3), uint8 BGR: the distance of AlexNet's features, 0 for equal images.

    Args:
        img: restored frame.
        img2: ground truth.
        weights: folder with ``pyiqa/LPIPS_v0.1_alex-df73285e.pth`` and ``checkpoints/alexnet-owt-7be5be79.pth``; ~ is
            that of PyTorch's hub, ``~/.cache/torch/hub``.

    Raises:
        UserError: the package or a file is missing.

    Reference: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018.
    """
    return _value(load("lpips", weights), img, img2)


@register("metric")
@traits(lower_is_better=True, prepare=partial(load, "dists"), how="pyiqa's dists: VGG-16")
def calculate_dists(img: np.ndarray, img2: np.ndarray, /, weights: str | None = None) -> float:
    """Returns DISTS of two images (h, w, 3), uint8 BGR: the distance of structure and texture, 0 for equal images.

    Args:
        img: restored frame.
        img2: ground truth.
        weights: folder with ``pyiqa/DISTS_weights-f5e65c96.pth`` and ``checkpoints/vgg16-397923af.pth``; ~ is that of
            PyTorch's hub, ``~/.cache/torch/hub``.

    Raises:
        UserError: the package or a file is missing.

    Reference: Ding et al., "Image quality assessment: unifying structure and texture similarity", TPAMI 2020.
    """
    return _value(load("dists", weights), img, img2)


@register("metric")
@traits(lower_is_better=True, prepare=partial(load, "niqe"), how="pyiqa's niqe, on Y; does not read the ground truth")
def calculate_niqe(img: np.ndarray, img2: np.ndarray, /, weights: str | None = None) -> float:
    """Returns NIQE of an image (h, w, 3), uint8 BGR: the distance from natural images' statistics, without reference.

    Args:
        img: restored frame.
        img2: ground truth; it is not read.
        weights: folder with ``pyiqa/niqe_modelparameters.mat``; ~ is that of PyTorch's hub, ``~/.cache/torch/hub``.

    Raises:
        UserError: the package or a file is missing.

    Reference: Mittal et al., "Making a 'completely blind' image quality analyzer", IEEE SPL 2013.
    """
    return _value(load("niqe", weights), img)


def _value(model: Any, *images: np.ndarray) -> float:
    planes = [torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))) for image in images]
    frames = [plane.unsqueeze(0).float() / 255 for plane in planes]
    with torch.inference_mode():
        return float(model(*frames))
