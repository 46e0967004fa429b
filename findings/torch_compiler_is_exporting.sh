#!/usr/bin/env bash
# One would guess: torch.compiler.is_exporting() is true only while torch.export traces, as its docstring says ("it would
#     only be set to True when torch.export is used").
# What happens: inside a function under torch.compile it is true as well, with and without fullgraph, so that a branch
#     for export is compiled. `is_exporting() and not is_dynamo_compiling()` tells the two apart.
# Version: torch 2.11.0; in 2.14.1 and 2.15.0 it is false under torch.compile. Source: the function's docstring.
#     Date: 2026-11-30. Needs about 6 GB of temporary space.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-cache-dir torch==2.11.0 numpy==2.3.5
cat > "$work/see.py" <<'PYTHON'
import torch


def state():
    return torch.compiler.is_exporting(), torch.compiler.is_dynamo_compiling()


class Network(torch.nn.Module):
    def forward(self, x):
        seen["torch.export"] = state()
        return x + 1


def function(x):
    return x + 1, state()


print("torch", torch.__version__, "- (is_exporting, is_dynamo_compiling)")
x = torch.ones(2)
seen = {"eager": function(x)[1]}
for fullgraph in (True, False):
    torch.compiler.reset()
    compiled = torch.compile(function, backend="eager", fullgraph=fullgraph)
    seen[f"torch.compile, fullgraph={fullgraph}"] = compiled(x)[1]
torch.export.export(Network(), (x,))
for name, flags in seen.items():
    print(f"{name:32} {flags}")
expected = {
    "eager": (False, False),
    "torch.compile, fullgraph=True": (True, True),
    "torch.compile, fullgraph=False": (True, True),
    "torch.export": (True, False),
}
raise SystemExit(0 if seen == expected else "the behaviour has changed")
PYTHON
"$work/venv/bin/python" "$work/see.py"
