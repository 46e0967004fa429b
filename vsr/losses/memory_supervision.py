"""Teaches a memory which frames to read: supervision of its weights."""

import torch.nn.functional as F
from torch import Tensor

LEVELS = 255  # grey levels from black to white: a difference of one weighs a frame down by a factor of e


def weight_divergence(weights: Tensor, sentences: Tensor, target: Tensor) -> Tensor:
    """Returns how far a memory's weights are from those that favour the frames most like the target.

    KL(q ‖ p), in nats, with q the softmax over the sentences i of −|s_i − target|, the mean absolute difference in grey
    levels: over the whole frame for a memory with one weight a frame, over the pixels of each position for one with
    weight maps. It is the mean over batch and positions.

    Args:
        weights: p, the share of each sentence, (b, t) or (b, t, h, w).
        sentences: (b, t, 3, H, W) in [0, 1].
        target: (b, 3, H, W), the frame that is looked for.

    Reference: the original project's README names the option (``wsupervised``); the formula is our reading of it.
    """
    difference = (sentences - target[:, None]).abs().mean(2)  # (b, t, H, W)
    h, w = weights.shape[2:] or (1, 1)
    difference = F.adaptive_avg_pool2d(difference, (h, w))
    log_q = (-LEVELS * difference).log_softmax(1)
    log_p = weights.view_as(difference).clamp(min=1e-12).log()
    return (log_q.exp() * (log_q - log_p)).sum(1).mean()
