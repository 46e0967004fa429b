#!/usr/bin/env bash
# One would guess: DistributedDataParallel's forward_sync_buffers=False, which the deprecation warning of
#     broadcast_buffers=False recommends, does the same as the old argument.
# What happens: the old argument leaves each rank its own buffers and raises a FutureWarning. The new one is silent
#     and overwrites the buffers of every rank with those of rank 0 when the module is wrapped.
# Version: torch 2.14.1 (2.15.0 does the same). Source: docstring of torch/nn/parallel/distributed.py. Date:
#     2026-11-29.
# Needs about 6 GB of temporary space.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-cache-dir torch==2.14.1 numpy==2.3.5
cat > "$work/see.py" <<'PYTHON'
import sys
import warnings

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def wrap(rank, **arguments):
    network = torch.nn.BatchNorm1d(1)
    network.running_mean.fill_(float(rank))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.nn.parallel.DistributedDataParallel(network, **arguments)
    warned = any(item.category is FutureWarning and "broadcast_buffers" in str(item.message) for item in caught)
    return network.running_mean.item(), warned


def work(rank, store, queue):
    dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
    queue.put((rank, wrap(rank, broadcast_buffers=False), wrap(rank, forward_sync_buffers=False)))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    print("torch", torch.__version__)
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    mp.spawn(work, (sys.argv[1], queue), nprocs=2)
    seen = sorted(queue.get() for _ in range(2))
    for rank, old, new in seen:
        print(f"rank {rank}, (buffer, warned): broadcast_buffers=False {old}, forward_sync_buffers=False {new}")
    expected = [(0, (0.0, True), (0.0, False)), (1, (1.0, True), (0.0, False))]
    raise SystemExit(0 if seen == expected else "the behaviour has changed")
PYTHON
GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-lo} "$work/venv/bin/python" "$work/see.py" "$work/store"
