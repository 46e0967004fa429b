"""Weights by prefix: read once at a fresh start, recorded in the state, never needed again."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file
from training import assert_same_weights, log_of, predictor_options, small_options, weights, write_options
from videos import make_humaneva

from vsr import config, test
from vsr.archs import ResNetEncoder
from vsr.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("in_tmp_path")
STILL = {"train__optim_g": {"type": "Adam", "lr": 0.0}, "train__total_iter": 1, "datasets__val": None}


@pytest.fixture
def pretrained(clips, train):
    train(small_options(clips, name="pretrained", train__total_iter=1, datasets__val=None))
    return "experiments/pretrained/models/net_g_1.pth"


def test_a_mapping_gives_parts_their_own_files(tmp_path, clips, train, pretrained):
    whole = weights(tmp_path, "pretrained", 1)["params"]
    part = {n.removeprefix("reconstruction."): v + 1 for n, v in whole.items() if n.startswith("reconstruction.")}
    part["unused.weight"] = torch.zeros(1)  # a part's file may hold more
    save_file(part, "part.safetensors")
    files = {"": {"file": pretrained, "key": "params"}, "reconstruction": "part.safetensors"}
    train(small_options(clips, path={"pretrain_network_g": files}, **STILL))
    started = weights(tmp_path, "small", 1)["params"]
    for name, value in whole.items():
        torch.testing.assert_close(started[name], value + name.startswith("reconstruction."))
    assert "loaded part.safetensors into EDVR.reconstruction" in log_of(tmp_path)
    state = torch.load("experiments/small/training_states/1.state", weights_only=True)["progress"]
    digest = hashlib.sha256((tmp_path / pretrained).read_bytes()).hexdigest()
    assert state["weight_files"][""] == f"{pretrained} sha256:{digest}"
    assert state["loaded"] == sorted(whole)


def test_a_parts_own_file_may_lack_in_the_whole(tmp_path, clips, train, pretrained):
    """EDVR's weights with a network that also has a flow network, which comes from elsewhere."""
    content = torch.load(pretrained, weights_only=True)["params"]
    part = {n.removeprefix("reconstruction."): v for n, v in content.items() if n.startswith("reconstruction.")}
    torch.save({n: v for n, v in content.items() if not n.startswith("reconstruction.")}, "rest.pth")
    torch.save(part, "part.pth")
    train(small_options(clips, path={"pretrain_network_g": {"": "rest.pth", "reconstruction": "part.pth"}}, **STILL))
    assert_same_weights({"params": content}, {"params": weights(tmp_path, "small", 1)["params"]})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"spynt": "FILE"}, r"path\.pretrain_network_g: EDVR has no part 'spynt'; it has conv_first"),
        ({"reconstruction": "FILE"}, r"net_g_1\.pth matches nothing in EDVR\.reconstruction"),
        ({"": "none.pth"}, r"none\.pth does not exist"),
        ({"": {"file": "FILE", "kee": "params"}}, r"path\.pretrain_network_g"),
    ],
)
def test_files_that_do_not_fit_are_told(clips, train, pretrained, files, message):
    given = {
        prefix: {**file, "file": pretrained} if isinstance(file, dict) else file.replace("FILE", pretrained)
        for prefix, file in files.items()
    }
    with pytest.raises(UserError, match=message):
        train(small_options(clips, path={"pretrain_network_g": given}))


def test_an_encoders_weights_are_not_needed_again(tmp_path, train):
    """Faults of a constructor that read them: resuming and testing needed the file, and FreezeTrainer saw nothing."""
    root = make_humaneva(tmp_path / "frames")
    torch.save({**ResNetEncoder(4).state_dict(), "fc.weight": torch.zeros(2, 2)}, "resnet18.pth")
    network = {
        "network_g__encoder": {"type": "ResNetEncoder", "num_levels": 2, "weights": "resnet18.pth"},
        "network_g__decoder": {"type": "ResNetDecoder"},
        "network_g__memory": {"type": "pixsim", "embed_channels": 4},
    }
    frames = {f"datasets__{phase}__{key}": 32 for phase in ("train", "val") for key in ("width", "height")}
    options = predictor_options(root, train__total_iter=2, network_g__frame_size=[32, 32], **network, **frames)
    train(options)
    published = torch.load("resnet18.pth", weights_only=True)
    state = torch.load("experiments/small/training_states/2.state", weights_only=True)
    assert "encoder.conv1.weight" in state["progress"]["loaded"]
    assert not torch.equal(weights(tmp_path, "small", 2)["params"]["encoder.conv1.weight"], published["conv1.weight"])
    (tmp_path / "resnet18.pth").unlink()
    options["train"]["total_iter"] = 3
    train(options, "--auto_resume", "--resume_mode", "new_schedule")
    assert test.main(["-opt", str(write_options(tmp_path, options))]) == 0


def test_a_freeze_sees_an_encoders_weights(tmp_path, clips):
    """FreezeTrainer freezes what was loaded, however the file names it."""
    encoder = {"type": "ResNetEncoder", "weights": "resnet18.pth"}
    tree = {"network_g": {"encoder": encoder, "query_sentence_separate": True}, "path": {}}
    notes = config.spellings.modernise(tree, {})
    assert tree["path"]["pretrain_network_g"] == {"encoder": "resnet18.pth", "sentence_encoder": "resnet18.pth"}
    assert "network_g.encoder.weights is read as path.pretrain_network_g" in notes[0]
    assert "weights" not in tree["network_g"]["encoder"]
