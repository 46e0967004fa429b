"""Writes edvr_published.json: what the published EDVR (BasicSR 1.4.2 with torchvision's operator) computes.

python tests/data/make_edvr_published.py    # needs: pip install --no-deps basicsr==1.4.2
"""

import json
import sys
import types
from pathlib import Path

import torch
import torchvision.transforms.functional as functional

sys.path.insert(0, str(Path(__file__).parents[1]))
from edvr_cases import CASES, fill, frames, summary

moved = types.ModuleType("torchvision.transforms.functional_tensor")  # basicsr imports a module that is gone
moved.rgb_to_grayscale = functional.rgb_to_grayscale
sys.modules[moved.__name__] = moved
from basicsr.archs.edvr_arch import EDVR  # noqa: E402

torch.set_default_dtype(torch.float64)
published = {name: summary(fill(EDVR(**options)), frames(options)) for name, options in CASES.items()}
Path(__file__).with_suffix(".py").with_name("edvr_published.json").write_text(json.dumps(published, indent=1) + "\n")
