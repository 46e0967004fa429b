"""Measures what keeping freed memory saves on a CPU.

    python benchmarks/allocator.py

Restores a 180×320 frame with the demo's EDVR in one thread, with glibc as it is and with ``keep_freed_memory``, each in
a process of its own, and prints processor seconds (user, system) and peak memory.
"""

import platform
import resource
import subprocess
import sys

import torch

from vsr.archs import EDVR
from vsr.utils.allocator import keep_freed_memory


def measure(num_feat: int = 32, height: int = 180, width: int = 320) -> str:
    """Returns the processor time and peak memory of the second of two frames."""
    torch.set_num_threads(1)
    network = EDVR(num_feat=num_feat, num_extract_block=2, num_reconstruct_block=3).eval()
    lq = torch.rand(1, 5, 3, height, width)
    with torch.inference_mode():
        network(lq)
        before = resource.getrusage(resource.RUSAGE_SELF)
        network(lq)
        after = resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return f"user {user:5.2f} s   system {system:5.2f} s   peak {after.ru_maxrss / 2**20:.1f} GiB"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        if sys.argv[1] == "keep":
            keep_freed_memory()
        print(measure())
    else:
        print(f"torch {torch.__version__}, {platform.machine()}, {platform.libc_ver()}")
        for round_number in range(3):
            for mode in ("default", "keep"):
                run = subprocess.run([sys.executable, __file__, mode], capture_output=True, text=True, check=True)
                print(f"round {round_number}  {mode:8}", run.stdout.strip())
