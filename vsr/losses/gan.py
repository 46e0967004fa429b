"""Adversarial losses: how real a discriminator takes frames to be."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vsr.registry import at_least, register


@register("gan_loss", "GANLoss")
def gan_loss(
    logits: Tensor,
    is_real: bool,
    is_discriminator: bool,
    /,
    gan_type: Literal["vanilla", "lsgan", "wgan", "wgan_softplus", "hinge"] = "vanilla",
    real_label_val: float = 1.0,
    fake_label_val: float = 0.0,
    loss_weight: Annotated[float, at_least(0)] = 1.0,
) -> Tensor:
    """Returns the adversarial loss of a discriminator's output for frames that should be taken for real, or for fake.

    Args:
        logits: the output, any shape.
        is_real: what the frames should be taken for; a generator wants its own to be taken for real.
        is_discriminator: whether the discriminator is trained, and not the generator.
        gan_type: ``vanilla`` is the cross-entropy of the label, ``lsgan`` the squared distance to it, ``wgan`` the mean
            logit, ``wgan_softplus`` its softplus, ``hinge`` the mean logit, of which a discriminator's stops at ±1.
        real_label_val: label of real frames, for vanilla and lsgan.
        fake_label_val: label of fake frames, for vanilla and lsgan.
        loss_weight: factor of the generator's loss; the discriminator's has none.

    Reference: Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661 (vanilla, non-saturating); Mao et al. 2016,
        https://arxiv.org/abs/1611.04076 (lsgan); Arjovsky et al. 2017, https://arxiv.org/abs/1701.07875 (wgan); Karras
        et al. 2019, https://arxiv.org/abs/1812.04948 (wgan_softplus); Lim and Ye 2017,
        https://arxiv.org/abs/1705.02894 (hinge). Options and types are BasicSR's.
    """
    weight = 1.0 if is_discriminator else loss_weight
    signed = logits if is_real else -logits
    if gan_type in ("vanilla", "lsgan"):
        label = torch.full_like(logits, real_label_val if is_real else fake_label_val)
        distance = F.binary_cross_entropy_with_logits if gan_type == "vanilla" else F.mse_loss
        return weight * distance(logits, label)
    if gan_type == "wgan_softplus":
        return weight * F.softplus(-signed).mean()
    if gan_type == "hinge" and is_discriminator:
        return weight * F.relu(1 - signed).mean()
    return -weight * signed.mean()
