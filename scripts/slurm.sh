#!/usr/bin/env bash
# Trains with one process per Slurm task:
#     sbatch --nodes 2 --ntasks-per-node 4 --gpus-per-node 4 --time 24:00:00 scripts/slurm.sh -opt options/1e-4.yml
# Two minutes before the time limit, and when the job is cancelled or pre-empted, the processes save a state and end.
# The same job, submitted again, resumes from it.
#SBATCH --signal=USR1@120
set -euo pipefail
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0"; exit; }
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))

trap : TERM USR1  # Slurm signals the training processes itself; this shell only waits for them
srun --kill-on-bad-exit=1 bash -c 'RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID \
    exec .venv/bin/python -m vsr.train --auto_resume "$@"' train "$@" &
steps=$!
while kill -0 $steps 2>/dev/null; do wait $steps || true; done  # a signal ends the waiting, not the training
wait $steps
