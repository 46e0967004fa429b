"""Custom operators and the layers built on them."""

from vsr.ops.backend import choose_all
from vsr.ops.deform_conv.op import deform_conv2d
from vsr.ops.deform_conv.pack import ModulatedDeformConvPack
from vsr.ops.local_window.op import local_window_read

__all__ = ["ModulatedDeformConvPack", "deform_conv2d", "local_window_read"]

choose_all()
