"""Imports a file of scripts/, or setup.py, as a module, and runs it as the command line would."""

import importlib.util
import sys
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
