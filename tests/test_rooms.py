"""The structure: who may import whom, and a registry whose every entry can be found and configured."""

import ast
import inspect
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import get_args

import pytest

from vsr import registry
from vsr.config.manual import descriptions_of
from vsr.config.schema import num_supplied, options_of

ROOT = Path(__file__).parents[1] / "vsr"
# a room may import itself and these; entry points import everything
MAY_IMPORT = {
    "registry": set(),
    "utils": set(),
    "contracts": set(),
    "ops": {"registry", "utils"},
    "memory": {"registry", "utils", "contracts", "ops"},
    "archs": {"registry", "utils", "contracts", "ops", "memory"},
    "data": {"registry", "utils", "contracts"},
    "losses": {"registry", "utils"},
    "metrics": {"registry", "utils"},
    "config": {"registry", "utils", "contracts", "archs", "data", "metrics"},
    "engine": {"registry", "utils", "contracts", "ops", "archs", "config", "data", "losses"},
    "evaluation": {"registry", "utils", "contracts", "memory", "archs", "config", "data", "metrics", "engine"},
    "video": {"registry", "utils", "contracts", "archs", "config", "data", "engine", "evaluation"},
}
COMPONENTS = [(kind, name) for kind in get_args(registry.Kind) for name in registry.names(kind)]


def imports(file):
    """Yields the rooms that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        modules = [node.module] if isinstance(node, ast.ImportFrom) else []
        if modules == ["vsr"]:
            modules = [f"vsr.{alias.name}" for alias in node.names]
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            parts = (module or "").split(".")
            if parts[0] == "vsr" and len(parts) > 1:
                yield parts[1]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_only_what_lies_below_them(room):
    files = (ROOT / room).rglob("*.py") if (ROOT / room).is_dir() else [ROOT / f"{room}.py"]
    for file in files:
        assert set(imports(file)) <= MAY_IMPORT[room] | {room}, file


OPTIONAL = {"triton", "zlib-ng", "zlib_ng", "wandb", "visdom", "onnxscript", "onnxruntime"}


def test_vsr_imports_what_it_declares_and_nothing_else():
    imported = set()
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported |= {"tensorboard" if name == "torch.utils.tensorboard" else name.split(".")[0] for name in modules}
    of_module = metadata.packages_distributions()
    packages = {of_module.get(name, [name])[0].lower() for name in imported - sys.stdlib_module_names - {"vsr"}}
    toml = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    project = toml.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    declared = {re.match(r"[\w-]+", line)[0].lower() for line in project["dependencies"]}
    assert packages - OPTIONAL == declared


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_every_component_documents_every_option(kind, name):
    component = registry.find(kind, name)
    assert inspect.getdoc(component), f"{name} has no docstring"
    options = options_of(component, num_supplied(kind, component))
    assert set(options) - {"train"} <= set(descriptions_of(component))


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_every_component_has_plain_options(kind, name):
    parameters = inspect.signature(registry.find(kind, name)).parameters.values()
    assert not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters), (
        "name every option: it is the schema"
    )
    assert all(p.annotation is not p.empty for p in parameters), "annotate every option: it is the schema"


def test_an_unknown_name_is_told_with_the_nearest_one():
    with pytest.raises(ValueError, match="unknown arch 'EDRV'; did you mean 'EDVR'"):
        registry.find("arch", "EDRV")


def test_a_name_taken_twice_leaves_the_registry_as_it_was():
    before = registry.find("arch", "EDVR")
    for name in ("Other", "EDVR"):
        with pytest.raises(ValueError, match="registered twice"):
            registry.register("arch", "EDVR")(type(name, (), {}))
    assert registry.find("arch", "EDVR") is before
