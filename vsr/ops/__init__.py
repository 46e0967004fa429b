"""Custom operators and the layers built on them."""

from vsr.ops.backend import choose_all
from vsr.ops.conv3x3.layer import Conv3x3
from vsr.ops.conv3x3.op import conv3x3
from vsr.ops.deform_conv.op import deform_conv2d
from vsr.ops.deform_conv.pack import ModulatedDeformConvPack
from vsr.ops.flow_warp.op import flow_warp
from vsr.ops.local_window.op import local_window_read

__all__ = ["Conv3x3", "ModulatedDeformConvPack", "conv3x3", "deform_conv2d", "flow_warp", "local_window_read"]

choose_all()
