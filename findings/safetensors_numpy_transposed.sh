#!/usr/bin/env bash
# One would guess: safetensors.numpy stores a transposed image as it is indexed, or refuses it as safetensors.torch
#     does.
# What happens: up to 0.7.0 the array comes back equal. 0.8.0 writes the memory as it lies and the shape as it is
#     indexed: no error, and other values come back. np.ascontiguousarray before saving is right in all of them.
# Versions: safetensors 0.7.0, 0.8.0. Source: bindings/python/py_src/safetensors/numpy.py (its docstrings ask
#     for contiguous tensors); safetensors issue 825. Date: 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/see.py" <<'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, save

image = np.arange(24, dtype=np.float32).reshape(2, 4, 3).transpose(2, 0, 1)  # h w c -> c h w
back = load(save({"image": image}))["image"]
copied = load(save({"image": np.ascontiguousarray(image)}))["image"]
seen = "equal" if np.array_equal(back, image) else "other values"
print(f"safetensors {safetensors.__version__}, numpy {np.__version__}: shape {back.shape}, {seen}")
print(f"    first row saved {image[0, 0].tolist()}, loaded {back[0, 0].tolist()}")
right = seen == sys.argv[1] and back.shape == image.shape and np.array_equal(copied, image)
raise SystemExit(0 if right else f"the behaviour has changed: expected {sys.argv[1]}")
PYTHON
for pair in "0.7.0:equal" "0.8.0:other values"; do
    python3 -m venv "$work/${pair%:*}"
    "$work/${pair%:*}/bin/pip" install --quiet "safetensors==${pair%:*}" numpy==2.3.5
    "$work/${pair%:*}/bin/python" "$work/see.py" "${pair#*:}"
done
