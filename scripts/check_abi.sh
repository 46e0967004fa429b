#!/usr/bin/env bash
# Builds the wheel with the PyTorch of .venv and runs the operators' tests with another one, to check the stable ABI.
#
#     scripts/check_abi.sh           against the newest PyTorch
#     scripts/check_abi.sh 2.13.0    against that one
set -euo pipefail
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0"; exit; }
cd "$(dirname "$0")/.."
root=$PWD
work=$root/build/abi
version=${1:-}

bash scripts/setup.sh
rm -rf "$work/wheel" && mkdir -p "$work/wheel"
echo "abi: 1/3 the wheel"
VSR_REQUIRE_EXT=1 .venv/bin/python -m pip wheel -q --no-build-isolation --no-deps -w "$work/wheel" .

echo "abi: 2/3 an environment with torch ${version:-(newest)}"
[[ -x $work/venv/bin/python ]] || .venv/bin/python -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check "torch${version:+==$version}" torchvision \
    "$(ls "$work"/wheel/torch_vsr-*.whl)[dev]"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --force-reinstall "$work"/wheel/torch_vsr-*.whl

echo "abi: 3/3 the tests"
cd "$work"  # not in the checkout, whose vsr/ would be imported instead of the wheel's
"$work/venv/bin/python" -m vsr.env | grep -E '^(vsr|torch|deform|  compiled|_C)'
VSR_OPS=compiled "$work/venv/bin/python" -m pytest -c "$root/pyproject.toml" -p no:cacheprovider \
    "$root"/tests/test_deform_conv*.py "$root"/tests/test_local_window*.py -m "not gpu"
