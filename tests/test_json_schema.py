"""`vsr schema`: the JSON Schema with which editors check options files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from vsr import registry
from vsr.config.yaml_files import read_tree
from vsr.tools import schema
from vsr.utils.errors import UserError

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "options").rglob("*.yml"))
SCHEMA = ROOT / "options" / "schema.json"


@pytest.fixture(scope="module")
def built():
    """The schema of this package alone: other tests register components of their own in this process."""
    done = subprocess.run([sys.executable, "-m", "vsr", "schema"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def validator(built):
    Draft7Validator.check_schema(built)
    return Draft7Validator(built)


def mistakes(validator, tree):
    """The last key of each place where the schema finds a mistake."""
    found = []
    errors = list(validator.iter_errors(tree))
    while errors:
        error = errors.pop()
        errors += error.context or []
        found += [] if error.context else [".".join(map(str, error.absolute_path))]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_shipped_file_is_valid_and_names_the_schema(validator, file):
    assert mistakes(validator, yaml.safe_load(file.read_text())) == []
    first = file.read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (file.parent / first.partition("=")[2]).resolve() == SCHEMA


def test_the_committed_schema_is_that_of_the_code(built):
    assert json.loads(SCHEMA.read_text()) == built, "run: vsr schema -o options/schema.json"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("network_g.num_fea", 8),
        ("network_g.num_feat", 0),
        ("network_g.num_feat", "many"),
        ("network_g.with_tsa", "yes"),
        ("network_g.type", "EDVRR"),
        ("datasets.train.dataroot_gtt", "x"),
        ("datasets.train.batch_size_per_gpu", 1.5),
        ("datasets.train.degradation", "BX"),
        ("datasets.training", {}),
        ("train.total_iter", None),
        ("train.optim_g.betas", [0.9]),
        ("train.amp", "bf"),
        ("train.pixel_opt.epss", 1),
        ("train.parameters", [{"match": "x", "lr": 1}]),
        ("val.metrics.psnr.crop", 1),
        ("trainer", "ScratchTrainr"),
        ("loger", {}),
    ],
)
def test_the_schema_finds_a_mistake(validator, path, value):
    tree = read_tree(ROOT / "options" / "demo.yml")
    *sections, key = path.split(".")
    place = tree
    for section in sections:
        place = place[section]
    place[key] = value
    assert any(found.startswith(path) for found in mistakes(validator, tree))


@pytest.mark.parametrize("value", ["BI", "BD", {"type": "bicubic"}, None])
def test_the_schema_accepts_every_form_of_a_degradation(validator, value):
    tree = read_tree(ROOT / "options" / "demo.yml")
    tree["datasets"]["train"]["degradation"] = value
    assert mistakes(validator, tree) == []


@pytest.mark.parametrize("key", ["network_g.spynet_path", "network_g.edvr_path", "gpu_ids", "network_g.ema_decay"])
def test_the_schema_accepts_keys_of_published_files(validator, key):
    tree = read_tree(ROOT / "options" / "demo.yml")
    section, _, key = key.rpartition(".")
    (tree[section] if section else tree)[key] = [0, 1] if key == "gpu_ids" else 0.9 if key == "ema_decay" else "a.pth"
    assert mistakes(validator, tree) == []


@pytest.mark.parametrize("path", ["network_g", "datasets", "train.optim_g", "train.optim_g.lr", "network_g.type"])
def test_the_schema_finds_a_missing_key_in_a_complete_file_only(validator, path):
    tree = read_tree(ROOT / "options" / "demo.yml")
    *sections, key = path.split(".")
    place = tree
    for section in sections:
        place = place[section]
    del place[key]
    assert ".".join(sections) in mistakes(validator, tree)
    assert mistakes(validator, {"_base_": "base.yml", **tree}) == []


def test_components_of_ones_own_are_included(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_losses.py").write_text(
        "from vsr.registry import register\n\n\n@register('loss')\ndef MyLoss(sr, gt, /, width: int = 3):\n"
        '    """Returns it.\n\n    Args:\n        width: of it.\n    """\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    for kind in registry._components:
        registry.names(kind)  # a module imported later would register its components in the copy only
    monkeypatch.setattr(registry, "_components", {kind: dict(known) for kind, known in registry._components.items()})
    assert schema.main(["--import", "my_losses", "--component", "MyLoss"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["definitions"]["loss.MyLoss"]["properties"]["width"]["description"] == "of it."
    assert Draft7Validator(found).is_valid({"type": "MyLoss", "width": 4})
    assert not Draft7Validator(found).is_valid({"type": "MyLoss", "widht": 4})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--component", "EDVRM"], "unknown component 'EDVRM'; did you mean 'EDVR'?"),
        (["--import", "nowhere"], "--import: 'nowhere' cannot be imported"),
    ],
)
def test_an_unknown_name_is_refused(arguments, message):
    with pytest.raises(UserError) as refused:
        schema.main(arguments)
    assert message in str(refused.value)


def test_the_schema_is_written_to_a_file(tmp_path):
    assert schema.main(["-o", str(tmp_path / "schema.json"), "--component", "EDVR"]) == 0
    assert "arch.EDVR" in json.loads((tmp_path / "schema.json").read_text())["definitions"]
