"""Weight files: whose entries are taken, and tensors that no parameter can be copied from."""

import pytest
import torch

from vsr.utils.errors import UserError
from vsr.utils.weight_files import read_weights

PARTS = [torch.zeros(2), torch.zeros(3)]


@pytest.mark.filterwarnings("ignore")  # some of these kinds are experimental or deprecated
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.zeros(3, 3).to_sparse(), r"weight is a sparse tensor; save its to_dense\(\)"),
        (lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8), "weight is a quantized tensor; save"),
        (lambda: torch.empty(3, 3, device="meta"), r"weight is a tensor without values .* save the network with"),
        (lambda: torch.nested.nested_tensor(PARTS), "weight is a nested tensor; save tensors of one size"),
        (lambda: torch.nested.nested_tensor(PARTS, layout=torch.jagged), "weight is a nested tensor"),
    ],
)
def test_a_tensor_of_another_kind_is_told(tmp_path, make, message):
    torch.save({"params": {"weight": make()}}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=message):
        read_weights(tmp_path / "weights.pth")


def test_parameters_beside_an_entry_are_taken_whatever_the_key(tmp_path):
    torch.save({"weight": torch.ones(2), "norm._extra_state": {}}, tmp_path / "weights.pth")
    for key in (None, "params"):
        assert read_weights(tmp_path / "weights.pth", key)["weight"].tolist() == [1, 1]


def test_an_entry_of_another_framework_is_taken_when_named(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": {"module.weight": torch.ones(2)}, "meta": {"epoch": 3}}, file)
    with pytest.raises(UserError, match=r"no parameters.*; it has the entries state_dict, meta: path"):
        read_weights(file)
    with pytest.raises(UserError, match=r"has no entry 'params' \(path.param_key_g\); it has state_dict, meta"):
        read_weights(file, "params")
    assert read_weights(file, "state_dict")["weight"].tolist() == [1, 1]
