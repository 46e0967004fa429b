"""The commands of README.md and docs/."""

import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from load_script import load_script

from vsr import __main__ as vsr_commands

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.ko.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = "vsr|python|bash|torchrun|pip|ffmpeg|mkdocs"
BESIDE_BLOCKS = re.compile(rf"^(?:    |\t)(?:[A-Z_]+=\S+ )*(?:{PROGRAMS}) ", re.MULTILINE)  # it looks like a command
INLINE = re.compile(r"`((?:vsr|python|bash|torchrun) [^`\n]+)`")
ELSEWHERE = {"pip", "ffmpeg", "ffplay", "source", "mkdir", "sbatch", "git", "mkdocs", "pre-commit"}
ELSEWHERE_PYTHON = re.compile(r"(basicsr|demo|inference|tools)/\S+\.py|-m (visdom|torch|venv|pip|pytest|http)\b")
NEEDS = re.compile(r"\bneeds\b|(?<!불)필요(?!하)")  # a comment that names the data that a command needs


class Line(NamedTuple):
    """A line of a page's bash block, without its comment."""

    text: str
    needs_data: bool  # its comment says so, or one that stands alone above it in the block


class Command(NamedTuple):
    """A command and where it stands."""

    page: str
    words: tuple[str, ...]
    is_inline: bool  # it may be a part of a command
    needs_data: bool

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def commands(page: Path) -> list[Command]:
    """Returns the commands of a page; of a pipe, each of its commands."""
    text, found = page.read_text(), list[Command]()
    for line in blocks(text):
        for part in shlex.join(shlex.split(line.text)).split(" '|' "):
            found.append(Command(page.name, tuple(shlex.split(part)), False, line.needs_data))
    found += [
        Command(page.name, tuple(shlex.split(part)), True, False) for part in INLINE.findall(outside_blocks(text))
    ]
    return list(dict.fromkeys(found))


def blocks(text: str) -> list[Line]:
    """Returns the lines of a page's bash blocks, continued lines joined."""
    lines = []
    for block in re.findall(r"^```bash\n(.*?)^```", text.replace("\\\n", " "), re.MULTILINE | re.DOTALL):
        all_need_data = False
        for line in block.splitlines():
            command, _, comment = line.partition("#")
            needs_data = NEEDS.search(comment) is not None
            if command.strip():
                lines.append(Line(command.strip(), needs_data or all_need_data))
            elif comment:
                all_need_data = needs_data
    return lines


def outside_blocks(text: str) -> str:
    """Returns a page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def program(words: Sequence[str]) -> tuple[Callable, list[str]] | None:
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
