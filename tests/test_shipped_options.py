"""The options files of this repository."""

import shutil
from pathlib import Path

import pytest

from vsr import config

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(file for file in (ROOT / "options").rglob("*.yml") if file.parent.name != "parts")
PARTS = sorted((ROOT / "options").rglob("parts/*.yml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_shipped_file_is_right(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    config.load(file, missing_data="note")


@pytest.mark.parametrize("file", PARTS, ids=lambda file: file.stem)
def test_every_part_is_used(file):
    assert any(f"parts/{file.name}" in shipped.read_text() for shipped in SHIPPED)


@pytest.mark.parametrize("file", [file for file in SHIPPED if "restoration" in file.parts], ids=lambda file: file.stem)
def test_one_line_changes_the_data_set_of_a_next_frame_experiment(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # not among a developer's own datasets/
    shutil.copytree(ROOT / "options", tmp_path / "options")
    other = tmp_path / file.relative_to(ROOT)
    other.write_text(file.read_text().replace("parts/humaneva.yml", "parts/charades.yml"))
    assert config.load(other, missing_data="note").datasets["train"].settings["type"] == "CharadesDataset"
