"""The degradation of REDS and Vimeo-90K: MATLAB's bicubic downscaling, without files."""

from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from vsr.data.degrade.imresize import imresize
from vsr.registry import Positive, Shared, register


@register("degradation")
def bicubic(gt: Tensor, rng: np.random.Generator, /, scale: Annotated[Positive, Shared("scale")] = 4) -> Tensor:
    """Returns the frames as MATLAB's ``imresize`` shrinks them, rounded to 8 bits as in a file.

    Args:
        gt: (t, 3, H, W) in [0, 1]; H and W are multiples of ``scale``.
        rng: not used.
        scale: GT size / LQ size; the options' top level ``scale`` is filled in.
    """
    return imresize(gt.mul(255).round().to(torch.uint8), 1 / scale).float().div(255)
