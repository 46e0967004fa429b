#!/usr/bin/env bash
# From scratch to a trained network: installs, prepares real video, trains a small EDVR, tests it.
# Run again, it does only the missing steps; remove experiments/demo to train anew.
set -euo pipefail
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0"; exit; }
cd "$(dirname "$0")/.."
bash scripts/setup.sh
.venv/bin/python scripts/prepare_demo.py
.venv/bin/python -m vsr.train -opt options/demo.yml --auto_resume

table=results/demo/demo_table.txt
if [[ -f $table && -z $(find experiments/demo/models -name '*.pth' -newer "$table") ]]; then
    cat "$table"
else
    .venv/bin/python -m vsr.test -opt options/demo.yml
fi
