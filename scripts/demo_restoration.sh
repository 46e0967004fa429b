#!/usr/bin/env bash
# Next-frame prediction from scratch: installs, prepares real video, trains a small U-Net with a memory, tests it.
#   bash scripts/demo_restoration.sh --video vtest.avi    # arguments go to prepare_restoration_demo.py
# Run again, it does only the missing steps; remove experiments/demo_restoration to train anew.
set -euo pipefail
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0"; exit; }
cd "$(dirname "$0")/.."
bash scripts/setup.sh
.venv/bin/python scripts/prepare_restoration_demo.py "$@"
options=datasets/demo_restoration/options.yml  # options/demo_restoration.yml with the frame_interval that fits the video
.venv/bin/python -m vsr.train -opt $options --auto_resume
.venv/bin/python -m vsr.test -opt $options --save_weights
