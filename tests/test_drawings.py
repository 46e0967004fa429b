"""The drawings of the documentation: architectures, and the weights of memories."""

import json
import re
from xml.etree import ElementTree

import cv2
import pytest
import torch
from load_script import ROOT, exit_code, load_script
from synthetic import make_clips

from vsr.archs import EDVR, EDVRMemory
from vsr.engine.saving.checkpoints import save_safetensors
from vsr.memory import PixSentence, PixSim, PixWise

drawings = load_script("architectures", ROOT / "scripts" / "documentation")
memory_weights = load_script("memory_weights", ROOT / "scripts" / "documentation")
SMALL = {"num_feat": 8, "num_extract_block": 1, "num_reconstruct_block": 1, "deformable_groups": 2}


@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_the_committed_drawing_is_the_scripts_and_some_page_shows_it(name, tmp_path):
    drawings.main(tmp_path)
    drawn = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn == (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    assert any(f"pictures/{name}.svg" in page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_everything_lies_inside_the_picture(name):
    root = ElementTree.fromstring(drawings.DRAWINGS[name]())
    width, height = float(root.get("width")), float(root.get("height"))
    paths = [path.get("d") for path in root.iter("{http://www.w3.org/2000/svg}path")]
    numbers = [[float(n) for n in re.findall(r"-?[\d.]+", path)] for path in paths if not path.endswith("z")]
    assert numbers
    assert all(0 <= x <= width for line in numbers for x in line[::2])
    assert all(0 <= y <= height for line in numbers for y in line[1::2])


def weights_of(network, options, file):
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_safetensors(file, weights, {"vsr.network": json.dumps(options | SMALL), "vsr.scale": "4"})
    return file


def test_the_weights_of_every_memory_are_drawn(tmp_path):
    clip = make_clips(tmp_path, num_clips=1, num_frames=5, gt_size=(80, 96)).lq / "000"
    arguments = ["--clip", clip, "--frame", 2, "--square", 2, 4, 16, "--to", tmp_path / "weights.jpg"]
    torch.manual_seed(0)
    files = []
    for memory in (PixSim, PixWise, PixSentence):
        network = EDVRMemory(memory, map_size=(16, 16), **SMALL)
        options = {"type": "EDVRMemory", "memory": {"type": memory.__name__.lower()}, "map_size": [16, 16]}
        files.append(weights_of(network, options, tmp_path / f"{memory.__name__}.safetensors"))
    assert exit_code(memory_weights, *arguments, *files) == 0
    height, width, _ = cv2.imread(str(tmp_path / "weights.jpg")).shape
    rows = {"frames": 182, "pixsim": 34 + 82, "pixwise": 34 + 182, "pixsentence": 34 + 3 * 182}
    assert height == sum(rows.values()) and width >= 5 * 166 + 76


def test_a_network_without_memory_is_refused(tmp_path, capsys):
    clip = make_clips(tmp_path, num_clips=1, num_frames=5).lq / "000"
    file = weights_of(EDVR(**SMALL), {"type": "EDVR"}, tmp_path / "edvr.safetensors")
    assert exit_code(memory_weights, "--clip", clip, "--square", 0, 0, 16, file) == 2
    assert "is of EDVR, which has no memory" in capsys.readouterr().err
