#!/usr/bin/env bash
# Checks and measures everything that needs a GPU, in under 7 minutes on one modern GPU; builds and downloads nothing.
# Writes benchmarks/results/gpu_DATE.json and .log after each part. --clips DIR trains on your clips (datasets/demo's
# layout) instead of synthetic ones; --parts NAME… runs only these; --device cpu tries the script itself on small inputs.
set -euo pipefail
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0"; exit; }
cd "$(dirname "$0")/.."
python=.venv/bin/python
[[ -x $python ]] || python=python3
exec "$python" benchmarks/check_gpu.py "$@"
