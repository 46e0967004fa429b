"""Every command of README and docs: its program exists, its arguments are understood, its options file is right.

A test runs it as it is written (test_documented_pages.py), or a comment names the data that it needs.
"""

import argparse
import re
import sys

import pytest
import yaml
from documents import BESIDE_BLOCKS, PAGES, ROOT, blocks, commands, outside_blocks, program
from test_documented_pages import NOT_RUN, RUN

from vsr import __main__ as vsr_commands
from vsr import config
from vsr.utils.errors import UserError

ALL = [command for page in PAGES for command in commands(page)]
# options files that a page tells to write
MADE = {"my.yml", "holiday.yml", "films_test.yml", "films_real.yml", "films_val.yml", "options/my.yml", "FILE"}


class Parsed(Exception):
    """The arguments are understood."""


@pytest.fixture
def only_parse(monkeypatch):
    """Makes every program stop after reading its arguments."""
    parse = argparse.ArgumentParser.parse_args

    def parse_args(self, arguments=None, namespace=None):
        raise Parsed(parse(self, arguments, namespace))

    def error(self, message):
        raise UserError(message)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(argparse.ArgumentParser, "error", error)


@pytest.mark.parametrize("command", ALL, ids=str)
def test_a_command_is_understood(command, only_parse, monkeypatch):
    if command.is_inline and ("…" in command.words or "COMMAND" in command.words):
        pytest.skip("it stands for several")
    if (found := program(command.words)) is None:
        return
    main, arguments = found
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    try:
        main() if main.__code__.co_argcount == 0 else main(arguments)
    except Parsed as parsed:
        check_options_file(parsed.args[0])
    except SystemExit as stop:
        assert stop.code in (0, None)  # --help
    except (UserError, argparse.ArgumentTypeError) as error:
        is_about_data = "does not exist" in str(error)
        assert is_about_data or (command.is_inline and "required" in str(error)), error


def lacks_a_mark(command, run_pages):
    """Whether no test runs a command and no comment says what it needs."""
    page = command.page.replace(".ko.md", ".md")  # the Korean page has the commands of the English one
    is_run = page in run_pages or command.words[0] in NOT_RUN
    return not (is_run or command.is_inline or command.needs_data)


def test_a_command_is_run_by_a_test_or_says_what_it_needs():
    assert [str(command) for command in ALL if lacks_a_mark(command, RUN)] == []
    assert any(lacks_a_mark(command, set()) for command in ALL)


@pytest.mark.parametrize(
    ("block", "needs_data"),
    [
        ("vsr env", [False]),
        ("vsr env   # needs REDS", [True]),
        ("vsr env   # 네트워크 연결 필요; 학습", [True]),
        ("vsr env   # GPU 불필요", [False]),
        ("vsr env\n# needs REDS:\nvsr env\nvsr env\n# anywhere:\nvsr env", [False, True, True, False]),
        ("vsr test \\\n    --set a=b  # needs REDS", [True]),
    ],
)
def test_a_comment_marks_its_line_or_those_below_it(block, needs_data):
    assert [line.needs_data for line in blocks(f"```bash\n{block}\n```\n")] == needs_data


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_stand_in_bash_blocks(page):
    text = page.read_text()
    assert not BESIDE_BLOCKS.search(outside_blocks(text))
    others = re.findall(r"^```(?!bash)\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert not [block for block in others if re.match(r"(vsr|python|bash|torchrun|pip) ", block)]


def check_options_file(arguments):
    file = getattr(arguments, "opt", None)
    if file in (None, *MADE):
        return
    assert (ROOT / file).is_file(), file
    settings = [setting for setting in arguments.set if "FILE" not in setting]
    is_mistaken = any("grops" in setting for setting in settings)  # the tour shows a mistake
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        if is_mistaken:
            with pytest.raises(UserError, match="did you mean"):
                config.load(ROOT / file, settings, need="network", missing_data="note")
        else:
            config.load(ROOT / file, settings, missing_data="note")


def test_the_test_finds_commands_that_no_longer_exist(only_parse):
    with pytest.raises(UserError, match="unrecognized arguments: --overlay"):
        main, arguments = program(["vsr", "upscale", "film.mp4", "--overlay", "3"])
        main(arguments)
    with pytest.raises(UserError, match="unknown command 'enlarge'"):
        vsr_commands.run(["enlarge"])
    with pytest.raises(AssertionError):
        program(["bash", "scripts/check_abi.sh"])


def test_options_files_of_a_page_are_right(tmp_path, monkeypatch):
    """Those that a page tells to write, as the page has them."""
    monkeypatch.chdir(ROOT)
    files = {}
    for page in PAGES:
        for name, text in re.findall(r"`(\w+\.yml)`[^`]*?\n```yaml\n(.*?)```", page.read_text(), re.DOTALL):
            files[name] = text.replace("options/", f"{ROOT}/options/")
    assert set(files) >= {"my.yml", "films_test.yml"}
    for name, text in files.items():
        assert isinstance(yaml.safe_load(text), dict)
        (tmp_path / name).write_text(text)
        config.load(tmp_path / name, need="network")


def outline(page):
    """The depth of each heading, and below it the commands with their marks, links, and first cells of the tables."""
    parts, text = [], page.read_text()
    for section in re.split(r"^(?=#+ )", text, flags=re.MULTILINE)[1:]:
        depth = len(section) - len(section.lstrip("#"))
        links = re.findall(r"\]\(([^)]+)\)", section)
        rows = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
        rows = [re.findall(r"`[^`]+`", row) for row in rows]
        parts.append((depth, blocks(section), sorted(set(links) - {"README.ko.md", "README.md"}), rows))
    return parts


def test_the_korean_readme_has_the_same_sections_commands_links_and_rows():
    english, korean = outline(ROOT / "README.md"), outline(ROOT / "README.ko.md")
    assert len(english) == len(korean)
    for one, other in zip(english, korean, strict=True):
        assert one == other
