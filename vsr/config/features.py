"""Features of BasicSR and its descendants that are missing here, by the key or trainer that asks for them."""

_GAN = "training against a discriminator (GAN) is not built in; docs/training.md describes a trainer of your own"
_LOSS = "is not built in; docs/training.md describes a loss of your own, for train.losses"
MISSING_FEATURES = {
    **dict.fromkeys(("network_d", "optim_d", "gan_opt", "net_d_iters", "net_d_init_iters"), _GAN),
    **dict.fromkeys(("pretrain_network_d", "pretrain_model_d"), _GAN),
    **dict.fromkeys(("VideoGANModel", "VideoRecurrentGANModel", "SRGANModel", "ESRGANModel", "RealESRGANModel"), _GAN),
    "perceptual_opt": f"a perceptual loss {_LOSS}",
    "style_opt": f"a style loss {_LOSS}",
    "ldl_opt": f"the LDL loss {_LOSS}",
    "mixing_augs": "mixing the samples of a batch is not built in",
    "use_grad_clip": "the largest norm of the gradients is train.clip_grad_norm",
    "use_amp": "mixed precision is train.amp",
}
