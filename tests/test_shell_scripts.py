import subprocess

import pytest
from load_script import ROOT

SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_help_is_the_comment_at_the_top_and_does_nothing(script, flag, tmp_path):
    copy = tmp_path / "scripts" / script.name  # alone: whatever it went on to do would fail
    copy.parent.mkdir()
    copy.write_bytes(script.read_bytes())
    result = subprocess.run(
        ["bash", copy, flag], capture_output=True, text=True, timeout=60, env={"PATH": "/usr/bin:/bin"}
    )
    lines = [line for line in script.read_text().splitlines()[1:] if line == "#" or line.startswith("# ")]
    shown = result.stdout.splitlines()
    assert (result.returncode, result.stderr) == (0, "")
    assert len(shown) >= 1
    assert shown == [line[2:] for line in lines[: len(shown)]]
    assert "SBATCH" not in result.stdout
