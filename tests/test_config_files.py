"""The YAML of options files: what shares an anchor remains independent; what no option can be is told."""

import pytest

from vsr.config.files import override, read_tree
from vsr.config.spellings import modernise
from vsr.utils.errors import UserError

SHARED = "metrics: {rgb: &m {type: ssim, crop: {border: 2}}, y: *m, z: {<<: *m, type: psnr}}"
CYCLE = "metrics: &m {a: *m}"
DEEP = "[" * 3000


def write(folder, text, name="options.yml"):
    file = folder / name
    file.write_text(text)
    return file


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


def test_old_spellings_are_read_wherever_an_anchor_is_repeated(tmp_path):
    tree = read_tree(write(tmp_path, "datasets: {train: &t {use_flip: true}, val: *t}"))
    notes = modernise(tree)
    assert tree["datasets"] == {"train": {"use_hflip": True}, "val": {"use_hflip": True}}
    assert len(notes) == 2


def test_a_base_and_its_child_that_hold_themselves_are_told(tmp_path):
    write(tmp_path, CYCLE, "base.yml")
    with pytest.raises(UserError, match="an anchor contains itself"):
        read_tree(write(tmp_path, f"_base_: base.yml\n{CYCLE}"))


@pytest.mark.parametrize(
    ("setting", "message"), [(f"x={DEEP}", "…: .*nested too deeply"), ("x=&a [*a]", "an anchor contains itself")]
)
def test_an_override_without_end_is_told_in_a_line(setting, message):
    with pytest.raises(UserError, match=message) as caught:
        override({}, setting)
    assert len(str(caught.value)) < 400


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


def test_aliases_that_multiply_are_refused(tmp_path):
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (tmp_path / "options.yml").write_text("\n".join(lines))
    with pytest.raises(UserError, match="its aliases stand for more than 100,000 values"):
        read_tree(tmp_path / "options.yml")
