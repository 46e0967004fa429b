#!/usr/bin/env bash
# Runs the tests, all of them or what pytest's arguments choose: bash scripts/test.sh -m "not slow"
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
exec .venv/bin/python -m pytest "$@"
