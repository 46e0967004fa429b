"""Losses, registered under the names that option files use."""

from vsr.losses.pixel import charbonnier_loss, l1_loss, mse_loss, weighted_tv_loss

__all__ = ["charbonnier_loss", "l1_loss", "mse_loss", "weighted_tv_loss"]
