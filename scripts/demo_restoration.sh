#!/usr/bin/env bash
# Next-frame prediction from nothing: installs, prepares real video, trains a small U-Net with a memory, tests it.
#   bash scripts/demo_restoration.sh --video vtest.avi    # arguments go to prepare_restoration_demo.py
# Run again, it does only what is missing; remove experiments/demo_restoration to train anew.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
.venv/bin/python scripts/prepare_restoration_demo.py "$@"
interval=$(cat datasets/demo_restoration/frame_interval.txt)
options=(-opt options/demo_restoration.yml)
for phase in train val test; do
    options+=(--set "datasets.$phase.frame_interval=$interval")
done
.venv/bin/python -m vsr.train "${options[@]}" --auto_resume
.venv/bin/python -m vsr.test "${options[@]}" --save_weights
