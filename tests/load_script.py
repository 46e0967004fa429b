"""Imports a file of scripts/, or setup.py, as a module, and runs it as the command line would."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from vsr.utils.errors import exit_cleanly

ROOT = Path(__file__).parents[1]


def load_script(name: str, folder: Path = ROOT / "scripts") -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that its functions can be pickled for worker processes
    spec.loader.exec_module(module)
    return module


def exit_code(script: ModuleType, *arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        exit_cleanly(lambda: script.main([str(argument) for argument in arguments]))
    return stop.value.code


@contextmanager
def another_preparation(folder: Path) -> Iterator[subprocess.Popen]:
    """Runs a process that prepares ``folder`` for as long as the context lasts."""
    code = (
        "import pathlib, sys, vsr.utils.locks as s\n"
        "with s.sole_preparation(pathlib.Path(sys.argv[1])): print('locked', flush=True), sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
