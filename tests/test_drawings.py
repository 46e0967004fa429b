"""The drawings of the architectures in the documentation."""

import re
from xml.etree import ElementTree

import pytest
from load_script import ROOT, load_script

drawings = load_script("architectures", ROOT / "scripts" / "documentation")


@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_the_committed_drawing_is_the_scripts_and_some_page_shows_it(name, tmp_path):
    drawings.main(tmp_path)
    drawn = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn == (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    assert any(f"pictures/{name}.svg" in page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_everything_lies_inside_the_picture(name):
    root = ElementTree.fromstring(drawings.DRAWINGS[name]())
    width, height = float(root.get("width")), float(root.get("height"))
    paths = [path.get("d") for path in root.iter("{http://www.w3.org/2000/svg}path")]
    numbers = [[float(n) for n in re.findall(r"-?[\d.]+", path)] for path in paths if not path.endswith("z")]
    assert numbers
    assert all(0 <= x <= width for line in numbers for x in line[::2])
    assert all(0 <= y <= height for line in numbers for y in line[1::2])
