"""Components of a user's own, in modules that the options file names."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from training import small_options

from vsr import config
from vsr.utils.errors import UserError

ROOT = Path(__file__).parents[1]
OWN_NETWORK = (ROOT / "docs" / "training.md").read_text().split("```python\n")[1].split("```")[0]


@pytest.mark.slow
def test_a_network_of_ones_own_is_trained_and_tested(tmp_path, clips):
    """The example of docs/training.md, from the folder where the commands are given, with a process that reads."""
    (tmp_path / "my_networks.py").write_text(OWN_NETWORK)
    network = {"type": "MyNetwork", "num_feat": 8}
    options = small_options(clips, imports=["my_networks"], datasets__train__num_worker_per_gpu=1)
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump({**options, "network_g": network}))
    for program in ("vsr.costs", "vsr.train", "vsr.test"):
        command = [sys.executable, "-m", program, "-opt", str(file)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "small" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("imports", "message"),
    [
        (["no_such_module"], "imports: 'no_such_module' cannot be imported from"),
        (["../my_networks.py"], "expected a name as in Python's import"),
        (["taken"], "imports: taken: arch 'EDVR' is registered twice"),
        ("my_networks", "imports: expected a list"),
        ([3], r"imports\[0\]: expected text"),
    ],
)
def test_modules_that_cannot_be_imported_are_told(tmp_path, clips, monkeypatch, imports, message):
    (tmp_path / "taken.py").write_text("from vsr.registry import register\nregister('arch')(type('EDVR', (), {}))\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(small_options(clips, imports=imports)))
    with pytest.raises(UserError, match=message) as caught:
        config.load(file)
    assert "1 mistake in" in str(caught.value)
