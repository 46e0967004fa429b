#!/usr/bin/env bash
# Runs the tests side by side, all of them or what pytest's arguments choose: bash scripts/test.sh -m "not slow"
set -euo pipefail
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0"; exit; }
cd "$(dirname "$0")/.."
bash scripts/setup.sh
exec .venv/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal "$@"
