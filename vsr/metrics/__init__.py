"""Image quality metrics and the protocols that say how a number was measured."""

from vsr.metrics.protocol import Protocol, protocol_for
from vsr.metrics.psnr_ssim import calculate_psnr, calculate_ssim

__all__ = ["Protocol", "calculate_psnr", "calculate_ssim", "protocol_for"]
