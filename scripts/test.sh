#!/usr/bin/env bash
# Runs the tests in parallel: all but the slow ones, or those of pytest's arguments: bash scripts/test.sh -k resume
set -euo pipefail
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0"; exit; }
cd "$(dirname "$0")/.."
bash scripts/setup.sh
(($#)) || set -- -m "not slow"
exec .venv/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal "$@"
