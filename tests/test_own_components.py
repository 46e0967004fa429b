"""Components of one's own that break a contract: one message at --check, with its key, and never a traceback."""

import subprocess
import sys

import pytest
import yaml
from training import predictor_options, small_options

from vsr import config
from vsr.data.sets.test_clips import VideoTestDataset
from vsr.utils.errors import UserError

OWN_DATA = """
from typing import Annotated
from vsr.contracts import DataSpec
from vsr.registry import Shared, register


@register("dataset", "Counted")
class Counted:
    spec = DataSpec(task="next-frame")

    def __init__(self, count: int = 6) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count


@register("dataset", "Endless")
class Endless:
    spec = DataSpec(task="next-frame")


@register("dataset", "Scaled")
class Scaled:
    def __init__(self, scale: Annotated[int, Shared("scale")]) -> None:
        self.spec = DataSpec(scale=scale)

    def __len__(self) -> int:
        return 6
"""


def refusal(tmp_path, monkeypatch, options, name, code):
    """Returns the one mistake of a file that imports a module."""
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump({**options, "imports": [name]}))
    with pytest.raises(UserError) as caught:
        config.load(file)
    count, mistake = str(caught.value).splitlines()[:2]
    assert count.startswith("1 mistake in")
    return mistake.strip()


@pytest.mark.parametrize(
    ("phase", "entry", "message"),
    [
        ("val", {"type": "Counted", "count": 0}, "datasets.val: the data set is empty: nothing to measure"),
        ("train", {"type": "Counted", "count": 0}, "datasets.train: the training data set is empty"),
        ("val", {"type": "Endless"}, "datasets.val: Endless has no __len__: define one"),
        ("train", {"type": "Endless"}, "datasets.train: Endless has no __len__: define one"),
        ("val", {"type": "Scaled"}, "datasets.val: it is for super-resolution, but FramePredictor is for next-frame"),
    ],
)
def test_a_data_set_that_cannot_be_used_is_refused(tmp_path, monkeypatch, phase, entry, message):
    options = predictor_options(tmp_path)
    options["datasets"] = {"train": {"type": "Counted"}, "val": {"type": "Counted"}} | {phase: entry}
    assert refusal(tmp_path, monkeypatch, options, "counted_data", OWN_DATA).startswith(message)


def test_a_data_set_receives_the_scale_of_the_file_and_may_not_contradict_it(tmp_path, monkeypatch, clips):
    options = small_options(clips)
    options["datasets"]["train"] = {"type": "Scaled"}
    (tmp_path / "counted_data.py").write_text(OWN_DATA)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump({**options, "imports": ["counted_data"]}))
    assert config.load(file).datasets["train"].data.spec.scale == 4
    options["datasets"]["train"]["scale"] = 2
    message = "datasets.train.scale: 2, but scale is 4: leave it out"
    assert refusal(tmp_path, monkeypatch, options, "counted_data", OWN_DATA) == message


TRAINER = """
from dataclasses import dataclass
from vsr.engine.options import TrainOptions
from vsr.engine.trainer import Trainer
from vsr.registry import register


@register("trainer", "OwnTrainer")
class OwnTrainer(Trainer):
    def __init__(self, network, run, /, {train}) -> None:
        super().__init__(network, run, train)
"""


@pytest.mark.parametrize("train", ["train", "train: dict", "train: 'Missing'"])
def test_a_trainer_without_annotated_options_is_refused(tmp_path, monkeypatch, clips, train):
    """Its options would have no schema; this was a KeyError."""
    options = small_options(clips, trainer="OwnTrainer")
    code = TRAINER.format(train=train).replace('"OwnTrainer"', f'"OwnTrainer{len(train)}"')
    options["trainer"] += str(len(train))
    message = refusal(tmp_path, monkeypatch, options, f"own_trainer_{len(train)}", code)
    assert message.startswith("trainer: OwnTrainer does not declare its options: annotate its parameter `train`, train")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1 / 0", "imports: raises: ZeroDivisionError: division by zero (raises.py, line 1)"),
        ("\n\nimport torch\ntorch.nn.Nothing", "imports: raises: AttributeError: module 'torch.nn' has no attribute"),
        ("\ndef f(:\n    pass", "imports: raises: SyntaxError: invalid syntax (raises.py, line 2)"),
        ("\nimport missing_package", "imports: raises: No module named 'missing_package' (raises.py, line 2)"),
        ("from vsr import missing", "imports: raises: cannot import name 'missing' from 'vsr'"),
        (
            "from vsr.registry import register\nregister('arch')(type('EDVR', (), {}))",
            "imports: raises: arch 'EDVR' is registered twice: by vsr.archs.edvr and raises",
        ),
    ],
)
def test_a_module_that_raises_when_it_is_imported_is_refused(tmp_path, monkeypatch, clips, code, message):
    monkeypatch.delitem(sys.modules, "raises", raising=False)
    assert refusal(tmp_path, monkeypatch, small_options(clips), "raises", code).startswith(message)


def test_names_that_a_failed_import_would_have_registered_are_not_reported(tmp_path, monkeypatch, clips):
    options = small_options(clips, network_g={"type": "Own"}, trainer="OwnTrainer")
    options["val"]["metrics"] = {"own": {"type": "calculate_own"}}
    message = refusal(tmp_path, monkeypatch, options, "failing", "x = 1 / 0")
    assert message == "imports: failing: ZeroDivisionError: division by zero (failing.py, line 1)"


def test_a_module_beside_the_file_is_found_and_may_be_named_as_text(tmp_path, monkeypatch, clips):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_the_file.py").write_text(NETWORK.replace('("arch", "', '("arch", "Beside'))
    options = small_options(clips, imports="beside_the_file", network_g={"type": "BesideLoose"})
    (tmp_path / "options.yml").write_text(yaml.safe_dump(options))
    assert config.load(tmp_path / "options.yml").resolved.network_g.type == "BesideLoose"
    options["imports"] = "not_there"
    (tmp_path / "options.yml").write_text(yaml.safe_dump(options))
    with pytest.raises(
        UserError, match=f"'not_there' cannot be imported from .*, {tmp_path} or PYTHONPATH: No module named"
    ):
        config.load(tmp_path / "options.yml")


NETWORK = """
from torch import nn
from vsr.contracts import Spec
from vsr.registry import register


@register("arch", "Loose")
class Loose(nn.Module):
    def __init__(self, num_feat=8, *args, spec=True, **kwargs):
        super().__init__()
        if spec:
            self.spec = Spec(num_frames=3, scale=4)
        self.conv = nn.Conv2d(3, 48, 3, padding=1)

    def forward(self, lq):
        return nn.functional.pixel_shuffle(self.conv(lq[:, 1]), 4)


@register("arch", "Unreadable")
class Unreadable(nn.Module):
    def __init__(self, size: "Missing") -> None:
        super().__init__()
"""


def test_options_need_no_annotations(tmp_path, monkeypatch, clips):
    (tmp_path / "loose_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    options = small_options(clips, imports=["loose_network"], network_g={"type": "Loose", "num_feat": "any"})
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(options))
    assert config.load(file).resolved["network_g"] == {"type": "Loose", "num_feat": "any", "spec": True}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"type": "Loose", "spec": False}, "network_g: network Loose has no spec: set self.spec = Spec(reads=…"),
        ({"type": "Loose", "args": 1}, "network_g.args: unknown key"),
        (
            {"type": "Unreadable"},
            "network_g: the signature of Unreadable cannot be read: name 'Missing' is not defined",
        ),
    ],
)
def test_a_network_that_does_not_say_what_it_reads_is_refused(tmp_path, monkeypatch, clips, network, message):
    options = small_options(clips, network_g=network)
    assert refusal(tmp_path, monkeypatch, options, "loose_network", NETWORK).startswith(message)


def test_the_command_ends_with_one_message(tmp_path, clips):
    (tmp_path / "loose_network.py").write_text(NETWORK)
    network = {"type": "Loose", "spec": False}
    (tmp_path / "options.yml").write_text(
        yaml.safe_dump(small_options(clips, imports=["loose_network"], network_g=network))
    )
    command = [sys.executable, "-m", "vsr", "train", "-opt", "options.yml", "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "see docs/training.md" in done.stderr and "Traceback" not in done.stderr


def test_data_sets_are_opened_once_and_those_of_other_commands_are_not_kept(tmp_path, monkeypatch, clips):
    opened = []
    construct = VideoTestDataset.__init__
    monkeypatch.setattr(VideoTestDataset, "__init__", lambda self, **options: opened.append(construct(self, **options)))
    monkeypatch.setattr(VideoTestDataset.__init__, "__wrapped__", construct, raising=False)
    options = small_options(clips)
    options["datasets"]["test"] = {**options["datasets"]["val"], "name": "tested"}
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(options))
    sets = config.load(file).datasets
    assert len(opened) == 2 and None not in (sets["train"].data, sets["val"].data)
    assert sets["test"].data is None, "a training does not read it"
    sets = config.load(file, need="test").datasets
    assert len(opened) == 4 and sets["train"].data is None and sets["test"].data is not None
