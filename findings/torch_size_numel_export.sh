#!/usr/bin/env bash
# One would guess: in torch.export, x.shape.numel() is the same symbolic number as x.numel() or math.prod(x.shape).
# What happens: by default (strict=False) x.shape.numel() makes every dynamic size a constant. The export of a dynamic
#     height raises UserError. The product, x.numel(), and all three with strict=True keep the size dynamic.
# Version: torch 2.11.0 (2.15.0 does the same). Source: torch.export documentation, "Non-Strict Export"; torch.Size.
# Date: 2026-11-29. Needs about 6 GB of temporary space.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-cache-dir torch==2.11.0 numpy==2.3.5
cat > "$work/see.py" <<'PYTHON'
import math

import torch

COUNTS = {
    "x.shape.numel()": lambda x: x.shape.numel(),
    "math.prod(x.shape)": lambda x: math.prod(x.shape),
    "x.numel()": lambda x: x.numel(),
}


class Share(torch.nn.Module):
    def __init__(self, count):
        super().__init__()
        self.count = count

    def forward(self, x):
        return x / self.count(x)


def export(count, strict):
    height = torch.export.Dim("height", min=2, max=64)
    try:
        program = torch.export.export(
            Share(count), (torch.ones(4, 5),), dynamic_shapes=({0: height},), strict=strict
        )
    except torch._dynamo.exc.UserError as error:
        return "constant" if "specialized" in str(error) else f"other error: {error}"
    right = torch.allclose(program.module()(torch.ones(8, 5)), torch.full((8, 5), 1 / 40))
    return "dynamic" if right else "wrong value"


print("torch", torch.__version__)
seen = {(name, strict): export(count, strict) for name, count in COUNTS.items() for strict in (False, True)}
for (name, strict), what in seen.items():
    print(f"{name:20} strict={strict!s:5} {what}")
expected = {key: "constant" if key == ("x.shape.numel()", False) else "dynamic" for key in seen}
raise SystemExit(0 if seen == expected else "the behaviour has changed")
PYTHON
"$work/venv/bin/python" "$work/see.py"
