"""Measures of restored frames, and the protocols that say how a number was measured."""

from vsr.metrics.protocol import Protocol, protocol_for
from vsr.metrics.psnr_ssim import calculate_psnr, calculate_ssim
from vsr.metrics.traits import Traits, prepare, traits, traits_of

__all__ = [
    "Protocol",
    "Traits",
    "calculate_psnr",
    "calculate_ssim",
    "prepare",
    "protocol_for",
    "traits",
    "traits_of",
]
