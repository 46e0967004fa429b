"""How the C library hands out memory, and the peak of it."""

import ctypes
import resource
import sys
from contextlib import suppress

import torch


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next request instead of returning it to the system.

    The features of a layer take tens to hundreds of megabytes, and the system zeroes each fresh page. Restoring a
    180×320 frame on a CPU then takes a bit more than half the processor time, and half as much memory again
    (benchmarks/allocator.py).
    """
    with suppress(AttributeError):  # musl and macOS have no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX in malloc.h
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: never


def peak_memory(device: torch.device) -> float:
    """Returns the peak memory in GiB: the GPU's, or on a CPU this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
