"""The documentation builds, and lists every option."""

import html
import re
import subprocess
import sys
from typing import get_args

import pytest
from load_script import ROOT

from vsr import registry


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr  # a broken link is a warning, and --strict makes it an error
    return folder


def test_the_home_page_is_the_readme(site):
    assert "PyTorch framework" in (site / "index.html").read_text()
    assert (site / "pictures" / "demo.jpg").is_file()


def test_links_and_bars_of_a_page_are_shown_as_such(site):
    pages = [re.sub(r"<pre.*?</pre>", "", file.read_text(), flags=re.DOTALL) for file in site.rglob("index.html")]
    assert not [found for page in pages for found in re.findall(r"\[[^\]<]*(?:\]\(| \(<code>)[^)]*\)", page)]
    assert not [found for page in pages for found in re.findall(r"<code>[^<]*\\\|[^<]*</code>", page)]
    assert '<a href="../testing/">Testing</a>' in (site / "tour" / "index.html").read_text()


@pytest.mark.parametrize("kind", sorted(set(get_args(registry.Kind)) - {"trainer"}))
def test_every_component_has_a_table(site, kind):
    page = (site / "options" / "index.html").read_text()
    headings = re.findall(r"<h3 id=[^>]*>([^<]+)<", page)
    own = {name for name in registry.names(kind) if registry.find(kind, name).__module__.startswith("vsr.")}
    assert own <= set(headings)  # other tests register components of their own


def test_a_row_has_kind_default_and_description(site):
    text = html.unescape(re.sub(r"<[^>]+>", " ", (site / "options" / "index.html").read_text()))
    assert "print_freq a whole number of at least 1 100 iterations between two lines of the log" in " ".join(
        text.split()
    )
    assert "<factory>" not in text
