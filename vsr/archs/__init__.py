"""Networks, one file per paper."""

from vsr.archs.edvr import EDVR

__all__ = ["EDVR"]
