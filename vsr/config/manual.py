"""Reads the documentation of options from docstrings, for editors and for the manual."""

import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

ENTRY = re.compile(r"(\w+): +(.*)")
AS_ANOTHER = re.compile(r"arguments as (?::\w+:)?`+(\w+)")


def summary_of(function: Callable[..., Any]) -> str:
    """Returns the first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


def descriptions_of(function: Callable[..., Any]) -> dict[str, str]:
    """Returns the descriptions under ``Args:`` by parameter name.

    A class inherits those of its base classes, and a function whose docstring says "arguments as :func:`f`" those of f.
    """
    sources = [part for cls in function.__mro__ for part in (cls, cls.__init__)] if inspect.isclass(function) else []
    found: dict[str, str] = {}
    for source in sources or [function]:
        text = inspect.cleandoc(source.__doc__ or "")
        found = _arguments(text) | found
        if other := AS_ANOTHER.search(text):
            found = descriptions_of(vars(sys.modules[function.__module__])[other[1]]) | found
    return found


def _arguments(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name, is_inside = "", False
    for line in text.splitlines():
        if not line.startswith(" "):
            is_inside = line == "Args:" or (is_inside and not line)
        elif is_inside and not line.startswith("     ") and (entry := ENTRY.match(line.strip())):
            name, found[entry[1]] = entry[1], entry[2]
        elif is_inside and name:
            found[name] += " " + line.strip()
    return found
