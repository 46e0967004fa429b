"""Building each component of an options file once: what is refused, and with which words."""

import pytest
import yaml
from training import predictor_options

from vsr import config
from vsr.utils.errors import UserError

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
