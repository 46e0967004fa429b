"""How the C library hands out memory, and how much was taken."""

import ctypes
import resource
import sys

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next request, instead of giving it back to the system each time.

    A frame's features are tens to hundreds of megabytes, asked for and freed layer by layer; fresh pages are zeroed by
    the system one by one. Restoring a 180×320 frame on a CPU then takes a bit more than half the processor time, and
    half as much memory again (benchmarks/allocator.py). Other C libraries are left alone.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory(device: torch.device) -> float:
    """Returns the most memory that was in use, in GiB: the GPU's, or on a CPU this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
