"""The commands of README.md and docs/."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.ko.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = "vsr|python|bash|torchrun|pip|ffmpeg|mkdocs"
INDENTED = re.compile(rf"    (?:[A-Z_]+=\S+ )*(?:{PROGRAMS}) ")  # a block without a fence
INLINE = re.compile(r"`((?:vsr|python|bash|torchrun) [^`\n]+)`")


class Command(NamedTuple):
    """A command and where it stands."""

    page: str
    words: tuple[str, ...]
    is_inline: bool  # it may be a part of a command

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def commands(page: Path) -> list[Command]:
    """Returns the commands of a page, without comments; of a pipe, each of its commands."""
    text, found = page.read_text(), list[Command]()
    for line in blocks(text):
        words = shlex.split(line, comments=True)
        for part in shlex.join(words).split(" '|' ") if words else ():
            found.append(Command(page.name, tuple(shlex.split(part)), False))
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found += [Command(page.name, tuple(shlex.split(part)), True) for part in INLINE.findall(outside)]
    return list(dict.fromkeys(found))


def blocks(text: str) -> list[str]:
    """Returns the lines of a page's bash blocks, continued lines joined."""
    lines, fence = [], None
    for line in text.replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("```"):
            fence = line.strip()[3:] if fence is None else None
        elif fence == "bash" or (fence is None and INDENTED.match(line)):
            lines.append(line.strip())
    return lines
