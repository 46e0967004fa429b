"""Imports BasicSR's classes, for those who have it: ``pip install --no-deps basicsr==1.4.2``."""

import importlib
import sys
import types
from unittest.mock import patch

import torch
import torchvision.transforms.functional as functional
from torch import nn

MODULES = {
    "BasicVSR": "basicvsr_arch",
    "IconVSR": "basicvsr_arch",
    "BasicVSRPlusPlus": "basicvsrpp_arch",
    "SpyNet": "spynet_arch",
    "VGGStyleDiscriminator": "discriminator_arch",
}


def published(name: str, **options) -> nn.Module:
    """Returns a network of BasicSR; raises ImportError where it is not installed."""
    moved = types.ModuleType("torchvision.transforms.functional_tensor")  # basicsr imports a module that is gone
    moved.rgb_to_grayscale = functional.rgb_to_grayscale
    sys.modules.setdefault(moved.__name__, moved)
    module = importlib.import_module(f"basicsr.archs.{MODULES[name]}")
    with patch.object(torch.cuda, "is_available", return_value=True):  # else BasicVSR++ is built without alignment
        return getattr(module, name)(**options)
