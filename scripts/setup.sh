#!/usr/bin/env bash
# Creates .venv with the tested versions and installs vsr, with its compiled kernels if there is a C++ compiler.
# Run again, it reinstalls only after a change. PYTHON=… chooses the interpreter.
set -euo pipefail
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0"; exit; }
cd "$(dirname "$0")/.."

pins=(torch==2.11.0 torchvision==0.26.0)
build_tools=("setuptools>=77" wheel ninja)
stamp_file=.venv/.vsr-setup

say() { printf '%s\n' "setup: $*"; }
fail() { printf '%s\n' "setup: $*" >&2; exit 1; }

find_python() {
    local name
    for name in ${PYTHON:-python3.11 python3.12 python3.13 python3.10 python3}; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    fail "no Python 3.10 or later with venv found${PYTHON:+ (PYTHON=$PYTHON)}; Debian and Ubuntu: apt install python3 python3-venv"
}

# A hash of everything the installation depends on: another commit, or another torch in .venv, triggers a reinstallation.
stamp() {
    { cat setup.py pyproject.toml scripts/setup.sh csrc/*.h csrc/*/*; echo "${VSR_CUDA:-} ${TORCH_CUDA_ARCH_LIST:-} $PWD"
      ls -d .venv/lib/python*/site-packages/torch-*.dist-info .venv/lib/python*/site-packages/torchvision-*.dist-info; } 2>/dev/null |
        sha256sum | cut -d ' ' -f 1
}

pip_install() {
    .venv/bin/python -m pip install --disable-pip-version-check "$@" ||
        fail "pip could not install: $*. The lines above say why; without a network connection it cannot download packages"
}

if [[ -f $stamp_file && $(cat $stamp_file) == $(stamp) ]]; then
    say "up to date (.venv)"
    exit 0
fi

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    say "1/4 .venv from $python"
    "$python" -m venv --clear .venv || fail "$python -m venv failed; Debian and Ubuntu: apt install python3-venv"
fi
say "2/4 PyTorch (${pins[*]}: 3 GB to download if they are not there yet) and build tools"
pip_install "${pins[@]}" "${build_tools[@]}"
say "3/4 vsr, its other packages and its kernels (compiling takes one or two minutes)"
pip_install --no-build-isolation -e ".[dev]"
say "4/4 versions and back ends"
.venv/bin/python -m vsr.env | sed 's/^/    /' || fail "vsr does not run; python -m vsr.env says why"
stamp > $stamp_file
say "done; activate it with: source .venv/bin/activate"
