"""Every command of README and docs: its program exists, its arguments are understood, its options file is right."""

import argparse
import re
import sys

import pytest
import yaml
from documents import PAGES, ROOT, blocks, commands
from load_script import load_script

from vsr import __main__ as vsr_commands
from vsr import config
from vsr.utils.errors import UserError

ALL = [command for page in PAGES for command in commands(page)]
ELSEWHERE = {"pip", "ffmpeg", "ffplay", "source", "mkdir", "sbatch", "git", "mkdocs", "pre-commit"}
ELSEWHERE_PYTHON = re.compile(r"(basicsr|demo|inference|tools)/\S+\.py|-m (visdom|torch|venv|pip|pytest|http)\b")
# options files that a page tells to write
MADE = {"my.yml", "holiday.yml", "films_test.yml", "films_real.yml", "options/my.yml", "FILE"}


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


def program(words):
    """Returns the function of a command and its arguments; None for a program of others."""
    words = list(words)
    while "=" in words[0]:
        words.pop(0)  # a variable
    name, *rest = words
    if name in ELSEWHERE or (name.startswith("python") and ELSEWHERE_PYTHON.search(" ".join(rest))):
        return None
    if name == "torchrun":
        name, rest = "python", rest[rest.index("-m") :]
    if name == "vsr":
        return vsr_commands.run, rest
    if name == "bash":
        assert (ROOT / rest[0]).is_file(), rest[0]
        return None
    assert name in ("python", ".venv/bin/python"), name
    if rest[0] == "-m":
        assert rest[1].partition(".")[0] == "vsr", rest[1]
        return vsr_commands.run, [rest[1].removeprefix("vsr.").replace("_", "-"), *rest[2:]]
    folder, _, file = rest[0].rpartition("/")
    assert (ROOT / rest[0]).is_file(), rest[0]
    sys.path.append(str(ROOT / folder))
    return load_script(file.removesuffix(".py"), ROOT / folder).main, rest[1:]


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
    """The depth of each heading, and below it the commands, links, and first cells of the tables."""
    parts, text = [], page.read_text()
    for section in re.split(r"^(?=#+ )", text, flags=re.MULTILINE)[1:]:
        depth = len(section) - len(section.lstrip("#"))
        links = re.findall(r"\]\(([^)]+)\)", section)
        rows = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
        rows = [re.findall(r"`[^`]+`", row) for row in rows]
        lines = [line.partition(" #")[0].rstrip() for line in blocks(section)]
        parts.append((depth, lines, sorted(set(links) - {"README.ko.md", "README.md"}), rows))
    return parts


def test_the_korean_readme_has_the_same_sections_commands_links_and_rows():
    english, korean = outline(ROOT / "README.md"), outline(ROOT / "README.ko.md")
    assert len(english) == len(korean)
    for one, other in zip(english, korean, strict=True):
        assert one == other
