"""The YAML of options files: what it may hold, inheritance, overrides, and anchors, whose aliases are copies."""

import pytest
import yaml
from options_files import change, mistakes, write

from vsr import config
from vsr.config.yaml_files import override, read_tree
from vsr.utils.errors import UserError

SHARED = "metrics: {rgb: &m {type: ssim, crop: {border: 2}}, y: *m, z: {<<: *m, type: psnr}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not valid YAML"),
        ("scale: 4\nname: a\nname: b", "line 3, `name: b`: not valid YAML: the key 'name' is given twice"),
        ("name: a\ntrain:\n  lr: 1\n    eps: 2", "line 4, `eps: 2`: not valid YAML"),
        ("name: 2026-13-45", "'2026-13-45' is not a valid value (month must be in 1..12); quote it if it is text"),
        ("scale: 0x_", "'0x_' is not a valid value"),
        ("scale: !!int abc", "'abc' is not a valid value"),
        ("scale: !!bool abc", "'abc' is not a valid value"),
        ("scale: " + "9" * 5000, "is not a valid value"),
        ("- a\n- b", "expected a mapping of keys, got ['a', 'b']"),
        ("", "expected a mapping of keys, got nothing"),
        (
            "name: !!python/object/apply:os.system ['true']",
            "the tag !!python/object/apply:os.system is refused: ",
        ),
        (
            "scale: 4\nname: !!python/name:os.system",
            "line 2, `name: !!python/name:os.system`: the tag !!python/",
        ),
        ("name: !include other.yml", "the tag !include is refused: options files hold plain data"),
        ("name: !!python/tuple {a: 1}", "not valid YAML: expected a sequence node, but found mapping"),
        ("_base_: options.yml\nname: a", "_base_ leads back to the file itself"),
        ("_base_: 3", "_base_ has to name a file"),
        ("_base_: missing.yml", "options.yml: _base_: {folder}/missing.yml does not exist (relative to that file's"),
        ('_base_: "a\\0b"', "_base_ has to name a file, got 'a\\x00b'"),
        ("a: &a [*a]", "found unconstructable recursive node"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("\x00", "not valid YAML"),
    ],
)
def test_files_that_are_no_options_are_told(tmp_path, text, message):
    assert message.replace("{folder}", str(tmp_path)) in mistakes(tmp_path, text)


def test_a_key_that_a_base_gives_to_another_network_is_named_with_its_file(tmp_path, tree):
    (tmp_path / "base.yml").write_text(yaml.safe_dump({**tree, "network_g": {**tree["network_g"], "with_tsa": True}}))
    text = "_base_: base.yml\nnetwork_g: {type: EDVRMemory, zzz: 1}"
    text = mistakes(tmp_path, text)
    assert "network_g.with_tsa: unknown key; it comes from the _base_ base.yml: `with_tsa: ~` removes it" in text
    assert "network_g.zzz: unknown key\n" in text + "\n"


def test_files_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / "binary.yml").write_bytes(bytes(range(128, 256)))
    (tmp_path / "utf16.yml").write_bytes("name: a".encode("utf-16"))
    for name, message in [
        ("absent.yml", "does not exist"),
        (".", "cannot be read"),
        ("binary.yml", "is not a text file in UTF-8"),
        ("utf16.yml", "is not a text file in UTF-8"),
    ]:
        with pytest.raises(UserError, match=message):
            config.load(tmp_path / name)


PLAIN_TAGS = """
a: !!python/tuple [1, !!python/tuple [0.9, 0.99]]
b: !!python/tuple
- !!python/int 1
- !!python/long 2
c: !!python/dict {d: !!python/list [!!python/unicode 'x', !!python/str 3, !!python/none ]}
e: !!python/float 1e-4
f: !!python/bool yes
"""


def test_tags_of_plain_data_are_read_as_such(tmp_path):
    tree = read_tree(write(tmp_path, PLAIN_TAGS))
    assert tree == {"a": [1, [0.9, 0.99]], "b": [1, 2], "c": {"d": ["x", "3", None]}, "e": 1e-4, "f": True}
    override(tree, "b=!!python/tuple [3]")
    assert tree["b"] == [3]
    with pytest.raises(UserError, match=r"^--set b=!!python/name:os\.system: the tag !!python/name:os\.system is"):
        override(tree, "b=!!python/name:os.system")


def test_scientific_numbers_without_a_dot_are_numbers_and_names_stay_text(tmp_path, tree):
    text = yaml.safe_dump(tree).replace("lr: 0.0001", "lr: 1e-4").replace("name: right", "name: 1e-4")
    options = config.load(write(tmp_path, text))
    assert options.train.optim_g.keywords["lr"] == 1e-4
    assert options.name == "1e-4"


def test_a_base_is_merged_and_null_removes(tmp_path, tree):
    change(tree, "train.scheduler", {"type": "CosineAnnealingRestartLR", "periods": [4]})
    write(tmp_path, tree, "base.yml")
    child = {"_base_": "base.yml", "name": "child", "network_g": {"num_feat": 16}, "train": {"scheduler": None}}
    options = config.load(write(tmp_path, child))
    assert options.name == "child"
    assert options.network_g.keywords["num_feat"] == 16
    assert options.train.scheduler is None
    assert options.train.total_iter == 4


def test_a_merge_key_repeats_a_mapping_and_what_stands_beside_it_wins(tmp_path):
    text = "datasets: {train: {<<: &data {type: A, dataroot: x}, name: a}, val: {<<: *data, type: B, name: b}}"
    assert read_tree(write(tmp_path, text))["datasets"] == {
        "train": {"type": "A", "dataroot": "x", "name": "a"},
        "val": {"type": "B", "dataroot": "x", "name": "b"},
    }


def test_overrides_are_set_and_checked(tmp_path, tree):
    file = write(tmp_path, tree)
    options = config.load(file, ["train.optim_g.lr=2e-4", "datasets.train.interval_list=[1, 1]", "num_gpu=0"])
    assert options.train.optim_g.keywords["lr"] == 2e-4
    assert options.datasets["train"].settings["interval_list"] == [1, 1]
    for setting, message in [
        ("train.lr=1", "train.lr: unknown key"),
        ("train.schedular=~", "train.schedular: unknown key; did you mean 'scheduler'?"),
        ("datasets.trian=~", "datasets.trian: unknown phase"),
        ("nonsense", "--set takes a.b.c=value"),
        ("name.first=1", "'name' is not a mapping"),
        ("scale=[", "not valid YAML"),
    ]:
        with pytest.raises(UserError) as caught:
            config.load(file, [setting])
        assert message in str(caught.value)


# anchors --------------------------------------------------------------------------------------------------------------


def test_an_override_changes_no_other_place_that_shares_the_anchor(tmp_path):
    tree = read_tree(write(tmp_path, SHARED))
    override(tree, "metrics.y.type=psnr")
    override(tree, "metrics.y.crop.border=0")
    assert tree["metrics"]["rgb"] == {"type": "ssim", "crop": {"border": 2}}
    assert tree["metrics"]["y"] == {"type": "psnr", "crop": {"border": 0}}
    assert tree["metrics"]["z"] == {"type": "psnr", "crop": {"border": 2}}


def test_an_override_of_what_another_override_shares_changes_one_place(tmp_path):
    tree = {}
    override(tree, "metrics={rgb: &m {border: 2}, y: *m}")
    override(tree, "metrics.y.border=0")
    assert tree == {"metrics": {"rgb": {"border": 2}, "y": {"border": 0}}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2026-01-02", "line 2, `x: 2026-01-02`: not valid YAML: '2026-01-02' is not a valid value (its kind is date)"),
        ("[2026-01-02 10:00:00]", "'2026-01-02 10:00:00' is not a valid value (its kind is datetime); quote it if"),
        ("{2026-01-02: 1}", "'2026-01-02' is not a valid value (its kind is date); quote it if it is text"),
        ("!!binary aGk=", "'aGk=' is not a valid value (its kind is bytes)"),
        ("!!set {a, b}", "!!set is not a valid value (its kind is set)"),
    ],
)
def test_what_no_training_state_could_hold_is_told_with_its_line(tmp_path, text, message):
    with pytest.raises(UserError) as caught:
        read_tree(write(tmp_path, f"name: a\nx: {text}"))
    assert message in str(caught.value)


def test_an_override_that_is_nested_too_deeply_is_one_line():
    with pytest.raises(UserError, match="nested too deeply"):
        override({}, "x=" + "[" * 3000)


def test_aliases_that_multiply_are_refused(tmp_path):
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (tmp_path / "options.yml").write_text("\n".join(lines))
    with pytest.raises(UserError, match="its aliases stand for more than 100,000 values"):
        read_tree(tmp_path / "options.yml")
