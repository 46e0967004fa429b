"""Modules of vsr/ import each other without circles, also for type checkers only and within functions."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def module_of(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file, modules):
    """Returns the modules of vsr/ that a file imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in modules else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & modules


@pytest.fixture(scope="module")
def graph():
    files = {module_of(file): file for file in sorted((ROOT / "vsr").rglob("*.py"))}
    return {module: imports_of(file, set(files)) for module, file in files.items()}


def test_no_module_imports_itself_through_others(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_no_folder_has_more_than_12_python_files():
    for folder in {file.parent for file in (ROOT / "vsr").rglob("*.py")}:
        assert len(list(folder.glob("*.py"))) <= 12, folder
