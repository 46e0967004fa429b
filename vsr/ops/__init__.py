"""Operators with kernels of their own."""

import torch

from vsr.ops.backend import announce
from vsr.ops.deform_conv import deform_conv2d
from vsr.ops.deform_conv_pack import ModulatedDeformConvPack

__all__ = ["ModulatedDeformConvPack", "deform_conv2d"]

announce("cpu")
if torch.cuda.is_available():
    announce("cuda")
