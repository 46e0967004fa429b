"""Contracts between parts stand in vsr/contracts.py: no contract is found by getattr or hasattr."""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1] / "vsr"
# file: the most uses, reason
ALLOWED = {
    "archs/resnet.py": (1, "the layers have torchvision's names, layer1 to layer4"),
    "data/sources/lmdb.py": (1, "os.register_at_fork: not on every system"),
    "engine/guards.py": (1, "a field that PyTorch's error has in newer versions"),
    "evaluation/report.py": (2, "columns of a table, by name"),
    "evaluation/scores.py": (1, "a field of a score, by name"),
    "ops/backend.py": (2, "a back end's function, by the name of its module; whether the library defines an operator"),
    "ops/deform_conv/op.py": (1, "a dispatch key, by the device type"),
    "tables.py": (2, "arguments of the command line, by name"),
    "utils/log.py": (1, "a stream that passes everything on"),
}


def test_getattr_finds_no_contracts():
    found = Counter(
        file.relative_to(ROOT).as_posix()
        for file in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr")
    )
    assert {file: count for file, count in found.items() if count > ALLOWED.get(file, (0, ""))[0]} == {}
