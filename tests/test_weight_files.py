"""Weight files: safetensors and torch.save's, damaged ones, and whose entries are read."""

import argparse
import pickle

import pytest
import torch
from safetensors.torch import save_file

from vsr.utils.errors import UserError
from vsr.utils.weight_files import read_weights


def test_safetensors_are_read_as_they_were_saved(tmp_path):
    file, weight = tmp_path / "weights.safetensors", torch.randn(3, 2)
    save_file({"module.conv.weight": weight}, file, metadata={"vsr.scale": "4"})
    assert torch.equal(read_weights(file)["conv.weight"], weight)
    assert torch.equal(read_weights(file, "params")["conv.weight"], weight)


def damaged(whole, how):
    return {"cut": whole[:-7], "header": b"\x20" + bytes(7) + b"x" * 400, "empty": b"", "longer": whole + b"x"}[how]


@pytest.mark.parametrize("how", ["cut", "header", "empty", "longer"])
def test_damaged_safetensors_are_one_message(tmp_path, how):
    file = tmp_path / "weights.safetensors"
    save_file({"weight": torch.ones(20)}, file)
    file.write_bytes(damaged(file.read_bytes(), how))
    with pytest.raises(UserError, match=r"weights\.safetensors is damaged, or not a file of weights: "):
        read_weights(file)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "is a Git LFS pointer: fetch"),
        (b"\n<!doctype html>", "is a web page: download"),
        (b"see the other folder\n", "is a text file, not weights"),
    ],
)
def test_another_file_under_the_name_of_weights_is_recognised(tmp_path, suffix, content, message):
    (tmp_path / f"weights.{suffix}").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_weights(tmp_path / f"weights.{suffix}")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_that_are_not_there_are_named(tmp_path, suffix):
    with pytest.raises(UserError, match=rf"weights\.{suffix} does not exist"):
        read_weights(tmp_path / f"weights.{suffix}")


@pytest.mark.parametrize(
    "content", [b"G6\x15.\xde", b"q\x1f\xc5", b"hA*FM0\xff", b"\x80\x02cos\nsystem\n.", b"\x80\x04N."]
)
def test_any_bytes_are_refused_in_one_message(tmp_path, content):
    """torch.load raises struct.error, IndexError, KeyError, ... on them."""
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.pth( is damaged, or not a file of weights|: expected a dictionary)"):
        read_weights(tmp_path / "weights.pth")


def test_python_objects_are_not_loaded(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save({"params": {"weight": torch.ones(2)}, "options": argparse.Namespace(scale=4)}, file)
    with pytest.raises(UserError, match=r"holds Python objects \(argparse.Namespace\), .*state_dict\(\) alone"):
        read_weights(file)
    file.write_bytes(pickle.dumps({"options": argparse.Namespace(scale=4)}, protocol=2))
    with pytest.raises(UserError, match="is damaged, or not a file of weights: "):
        read_weights(file)


def test_parameters_beside_an_entry_are_taken_whatever_the_key(tmp_path):
    torch.save({"weight": torch.ones(2), "norm._extra_state": {}}, tmp_path / "weights.pth")
    for key in (None, "params"):
        assert read_weights(tmp_path / "weights.pth", key)["weight"].tolist() == [1, 1]


def test_an_entry_of_another_framework_is_taken_when_named(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save({"model": {"module.weight": torch.ones(2)}, "meta": {"epoch": 3}}, file)
    with pytest.raises(UserError, match=r"no parameters.*; it has the entries model, meta: path"):
        read_weights(file)
    with pytest.raises(UserError, match=r"has no entry 'params' \(path.param_key_g\); it has model, meta"):
        read_weights(file, "params")
    assert read_weights(file, "model")["weight"].tolist() == [1, 1]


def test_the_entry_of_mmagic_is_read_without_a_name(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": {"module.weight": torch.ones(2)}, "meta": {"epoch": 3}}, file)
    assert read_weights(file)["weight"].tolist() == [1, 1]
