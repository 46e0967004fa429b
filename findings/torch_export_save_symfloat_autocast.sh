#!/usr/bin/env bash
# One would guess: a program that torch.export makes and runs can be saved with torch.export.save.
# What happens: if a float made of a dynamic size (x.shape[-1] / 3) is computed before torch.autocast(enabled=False) and
#     used inside, the export succeeds and its program gives the right values, but save raises SerializeError. An
#     integer may enter the region; so may the size itself, if the division stands inside.
# Version: torch 2.11.0 (2.14.1 does the same). Source: torch.export documentation, "Serialization"; the region becomes
#     torch.ops.higher_order.wrap_with_autocast. Date: 2026-11-30. Needs about 6 GB of temporary space.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-cache-dir torch==2.11.0 numpy==2.3.5
cat > "$work/see.py" <<'PYTHON'
import io

import torch
from torch.export import Dim, export, load, save


class Outside(torch.nn.Module):
    def forward(self, x):
        factor = x.shape[-1] / 3
        with torch.autocast("cpu", enabled=False):
            return x * factor


class Inside(torch.nn.Module):
    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return x * (x.shape[-1] / 3)


class Integer(torch.nn.Module):
    def forward(self, x):
        factor = x.shape[-1] * 3
        with torch.autocast("cpu", enabled=False):
            return x * factor


def saved(network):
    program = export(network, (torch.ones(2, 5),), dynamic_shapes=({1: Dim("width", min=2, max=64)},))
    x = torch.ones(2, 6)
    assert torch.equal(program.module()(x), network(x))
    file = io.BytesIO()
    try:
        save(program, file)
    except Exception as error:  # its class lies in a private module
        return type(error).__name__
    file.seek(0)
    return "saved" if torch.equal(load(file).module()(x), network(x)) else "other values"


print("torch", torch.__version__)
seen = {network.__name__: saved(network()) for network in (Outside, Inside, Integer)}
for name, what in seen.items():
    print(f"{name:8} {what}")
expected = {"Outside": "SerializeError", "Inside": "saved", "Integer": "saved"}
raise SystemExit(0 if seen == expected else "the behaviour has changed")
PYTHON
"$work/venv/bin/python" "$work/see.py"
