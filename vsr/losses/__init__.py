"""Losses, registered under the names that option files use."""

from vsr.losses.gan import gan_loss
from vsr.losses.perceptual import PerceptualLoss
from vsr.losses.pixel import charbonnier_loss, l1_loss, mse_loss, weighted_tv_loss

__all__ = ["PerceptualLoss", "charbonnier_loss", "gan_loss", "l1_loss", "mse_loss", "weighted_tv_loss"]
