#!/usr/bin/env bash
# Trains with as many processes as Slurm gives tasks: sbatch --nodes 2 --ntasks-per-node 4 --gpus-per-node 4 \
#     scripts/slurm.sh -opt options/1e-4.yml
# A job that is stopped before its time saves a state first and goes on when it is submitted again.
#SBATCH --signal=B:TERM@120
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))

srun bash -c 'RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID \
    exec .venv/bin/python -m vsr.train --auto_resume "$@"' train "$@" &
steps=$!
trap 'scancel --signal=TERM --batch=no "$SLURM_JOB_ID" 2>/dev/null || kill -TERM $steps' TERM
wait $steps || wait $steps
