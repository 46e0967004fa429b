#!/usr/bin/env bash
# One would guess: a release of ONNX Runtime that reads opset 19 runs DeformConv, which is part of that opset since 2023.
# What happens: the CPU has no kernel up to 1.24.4. The model passes onnx's checker, and making the session raises
#     NotImplemented. From 1.25.0 on it runs, in opsets 19 and 22, and equals Conv where all offsets are zero. 1.23.2 is
#     the newest release for Python 3.10: networks with this operator need another form there.
# Versions: onnxruntime 1.23.2, 1.24.4, 1.25.0, 1.32.0; onnx 1.19.1; Python 3.11. Source: ONNX operators, DeformConv;
#     ONNX Runtime documentation, "ONNX Runtime compatibility". Date: 2026-11-30.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/see.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

SHAPES = {"x": [1, 2, 5, 6], "w": [3, 2, 3, 3], "offset": [1, 18, 5, 6]}


def run(operator, names, opset):
    node = helper.make_node(operator, names, ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPES[name]) for name in names]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 5, 6])
    graph = helper.make_graph([node], "one_node", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {name: values[name] for name in names})[0]


random = np.random.default_rng(0)
values = {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
values["offset"][:] = 0
seen = []
for opset in (19, 22):
    expected = run("Conv", ["x", "w"], opset)
    try:
        same = np.allclose(run("DeformConv", ["x", "w", "offset"], opset), expected, atol=1e-5)
        seen.append("runs" if same else "differs from Conv")
    except Exception as error:  # its class lies in a private module
        seen.append(type(error).__name__)
        print(f"    {' '.join(str(error).split())[:110]}")
print(f"onnxruntime {onnxruntime.__version__}: opset 19 {seen[0]}, opset 22 {seen[1]}")
raise SystemExit(0 if seen == [sys.argv[1]] * 2 else f"the behaviour has changed: expected {sys.argv[1]}")
PYTHON
for pair in 1.23.2:NotImplemented 1.24.4:NotImplemented 1.25.0:runs 1.32.0:runs; do
    python3 -m venv "$work/${pair%:*}"
    "$work/${pair%:*}/bin/pip" install --quiet "onnxruntime==${pair%:*}" onnx==1.19.1 numpy==2.3.5
    "$work/${pair%:*}/bin/python" "$work/see.py" "${pair#*:}"
done
