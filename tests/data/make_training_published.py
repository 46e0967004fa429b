"""Writes training_published.json: what BasicSR 1.4.2 makes of an EDVR in 14 steps (EDVRModel, torchvision's operator).

python tests/data/make_training_published.py    # needs: pip install --no-deps basicsr==1.4.2, on Python 3.11
"""

import copy
import json
import sys
import tempfile
import types
from pathlib import Path

import torch
import torchvision.transforms.functional as functional

sys.path.insert(0, str(Path(__file__).parents[1]))
from edvr_cases import SMALL, TRAINING, batch, fill, norms

moved = types.ModuleType("torchvision.transforms.functional_tensor")  # basicsr imports a module that is gone
moved.rgb_to_grayscale = functional.rgb_to_grayscale
sys.modules[moved.__name__] = moved
from basicsr.archs.edvr_arch import EDVR  # noqa: E402
from basicsr.models.edvr_model import EDVRModel  # noqa: E402

torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as folder:
    start = fill(EDVR(**SMALL)).state_dict()
    torch.save({"params": start, "params_ema": start}, f"{folder}/start.pth")  # or its average starts from noise
    options = {
        "num_gpu": 0,
        "dist": False,
        "rank": 0,
        "world_size": 1,
        "is_train": True,
        "scale": 4,
        "path": {"pretrain_network_g": f"{folder}/start.pth"},
        "network_g": {"type": "EDVR", **SMALL},
        "train": copy.deepcopy(TRAINING),
    }
    model = EDVRModel(options)
steps = []
for iteration in range(1, TRAINING["total_iter"] + 1):
    model.update_learning_rate(iteration, TRAINING["warmup_iter"])
    model.feed_data(batch(iteration))
    model.optimize_parameters(iteration)
    steps.append({"rates": model.get_current_learning_rate(), "loss": model.get_current_log()["l_pix"]})
published = {
    "steps": steps,
    "params": norms(model.net_g.state_dict()),
    "params_ema": norms(model.net_g_ema.state_dict()),
}
Path(__file__).with_name("training_published.json").write_text(json.dumps(published, indent=1) + "\n")
