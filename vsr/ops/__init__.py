"""Operators with kernels of their own."""

from itertools import product
from typing import get_args

import torch

from vsr.ops.backend import Operator, choose
from vsr.ops.deform_conv import deform_conv2d
from vsr.ops.deform_conv_pack import ModulatedDeformConvPack
from vsr.ops.local_window import local_window_read

__all__ = ["ModulatedDeformConvPack", "deform_conv2d", "local_window_read"]

for operator, device_type in product(get_args(Operator), ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)):
    choose(operator, device_type)
