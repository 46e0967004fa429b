"""Networks, one file per paper."""

from vsr.archs.edvr import EDVR
from vsr.archs.edvr_memory import EDVRMemory

__all__ = ["EDVR", "EDVRMemory"]
