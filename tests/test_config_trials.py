"""Building each component of an options file once: what is refused, and with which words."""

import pytest
import torch
import yaml
from torch import nn
from training import predictor_options

from vsr import config
from vsr.config.trials import TRIALS
from vsr.utils.errors import UserError


class ReadsValues(nn.Module):
    """Rates of stochastic depth, as many networks compute them."""

    def __init__(self, read, num_feat=3):
        super().__init__()
        self.rates = read(torch.linspace(0, 0.1, 4))
        self.conv = nn.Conv2d(3, num_feat, 3)


@pytest.mark.parametrize(
    "read", [lambda x: [rate.item() for rate in x], lambda x: x.tolist(), lambda x: list(x.numpy()), lambda x: x.data]
)
def test_a_network_may_read_values_while_it_is_built(read):
    network = TRIALS["arch"](lambda: ReadsValues(read))
    assert len(network.rates) == 4


@pytest.mark.parametrize("read", [lambda x: x.tolist(), lambda x: x])
def test_sizes_that_cannot_be_are_told(read):
    with pytest.raises(ValueError, match="it cannot be built with these sizes"):
        TRIALS["arch"](lambda: ReadsValues(read, num_feat=2**60))


OWN_DATA = """
from vsr.registry import register


@register("dataset", "Counted")
class Counted:
    task, test_type, input_size = "next-frame", "nextframe", 3

    def __init__(self, count: int = 6) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count


@register("dataset", "Endless")
class Endless:
    task, test_type, input_size = "next-frame", "nextframe", 3
"""


@pytest.mark.parametrize(
    ("phase", "entry", "message"),
    [
        ("val", {"type": "Counted", "count": 0}, "datasets.val: the data set is empty: nothing to measure"),
        ("train", {"type": "Counted", "count": 0}, "datasets.train: the training data set is empty"),
        ("val", {"type": "Endless"}, "datasets.val: Endless has no __len__: define one"),
        ("train", {"type": "Endless"}, "datasets.train: Endless has no __len__: define one"),
    ],
)
def test_a_data_set_without_samples_is_told(tmp_path, monkeypatch, phase, entry, message):
    (tmp_path / "counted_data.py").write_text(OWN_DATA)
    monkeypatch.syspath_prepend(tmp_path)
    options = predictor_options(tmp_path, imports=["counted_data"])
    options["datasets"] = {"train": {"type": "Counted"}, "val": {"type": "Counted"}} | {phase: entry}
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(options))
    with pytest.raises(UserError) as caught:
        config.load(file)
    assert str(caught.value).startswith("1 mistake in") and message in str(caught.value)
