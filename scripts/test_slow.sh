#!/usr/bin/env bash
# Runs the tests marked slow, in parallel; arguments are pytest's.
set -euo pipefail
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0"; exit; }
exec bash "$(dirname "$0")/test.sh" -m slow "$@"
