#!/usr/bin/env bash
# One would guess: the same tensors and metadata give the same safetensors file, so that its hash identifies a
#     checkpoint.
# What happens: with no metadata or one entry they do. With two entries or more their order in the header changes from
#     one save to the next, and so do the bytes. load(bytes) returns the tensors in another order each time, too;
#     load_file returns them sorted.
# Versions: safetensors 0.7.0, 0.8.0. Source: safetensors/src/tensor.rs (metadata is a HashMap); the README's section
#     on the format. Date: 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/see.py" <<'PYTHON'
import os
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, load_file, save

tensors = {f"block{i}.weight": np.full(4, i, np.float32) for i in range(8)}
path = os.path.join(sys.argv[1], safetensors.__version__ + ".safetensors")
with open(path, "wb") as file:
    file.write(save(tensors))


def num_different(make):
    return len({make() for _ in range(50)})


entries = {name: name for name in "abcdefgh"}
saves = [num_different(lambda m=m: save(tensors, metadata=m)) for m in (None, {"a": "a"}, entries)]
loads = [num_different(lambda: tuple(load(save(tensors)))), num_different(lambda: tuple(load_file(path)))]
print(f"safetensors {safetensors.__version__}, numpy {np.__version__}, of 50 each:")
print(f"    different files without metadata {saves[0]}, with one entry {saves[1]}, with eight {saves[2]}")
print(f"    different orders of load {loads[0]}, of load_file {loads[1]}")
right = saves[:2] == [1, 1] and saves[2] > 1 and loads[0] > 1 and loads[1] == 1
raise SystemExit(0 if right and list(load_file(path)) == sorted(tensors) else "the behaviour has changed")
PYTHON
for version in 0.7.0 0.8.0; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet "safetensors==$version" numpy==2.3.5
    "$work/$version/bin/python" "$work/see.py" "$work"
done
