"""Networks and inputs made without a random generator, to compare with stored outputs of the published EDVR."""

import torch
from torch import Tensor, nn

SMALL = {"num_feat": 16, "num_extract_block": 1, "num_reconstruct_block": 1, "deformable_groups": 4}
CASES = {
    "with TSA": SMALL,
    "without TSA": {**SMALL, "with_tsa": False},
    "predeblur": {**SMALL, "with_predeblur": True},
    "predeblur, full-size input": {**SMALL, "with_predeblur": True, "hr_in": True},
    "first of 3 frames": {**SMALL, "num_frame": 3, "center_frame_idx": 0},
    "7 frames": {**SMALL, "num_frame": 7},
}


def fill(network: nn.Module) -> nn.Module:
    """Sets every parameter to a wave that depends on its name and size alone."""
    for name, parameter in network.named_parameters():
        phase = sum(ord(letter) for letter in name)
        wave = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * 0.7 + phase)
        parameter.data = (wave / max(parameter[0].numel(), 4) ** 0.5).reshape(parameter.shape).to(parameter)
    return network


def frames(options: dict) -> Tensor:
    """Returns a window of moving waves, (1, t, 3, h, w)."""
    t, (h, w) = options.get("num_frame", 5), (32, 48) if options.get("hr_in") else (16, 24)
    t, c, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (t, 3, h, w)), indexing="ij")
    return (0.5 + 0.25 * torch.sin(0.9 * x + 0.5 * t) + 0.25 * torch.cos(0.6 * y - 0.4 * t + c)).unsqueeze(0)


def summary(network: nn.Module, lq: Tensor) -> dict[str, list[float]]:
    """Returns some output values, and of every parameter's gradient the norm."""
    sr = network(lq)
    sr.square().mean().backward()
    return {
        "output": sr.detach().flatten()[:: sr.numel() // 40].tolist(),
        "gradient_norms": [parameter.grad.norm().item() for parameter in network.parameters()],
        "names": [name for name, _ in network.named_parameters()],
    }


TRAINING = {
    "optim_g": {"type": "Adam", "lr": 1e-3, "weight_decay": 0.01, "betas": [0.9, 0.99]},
    "scheduler": {
        "type": "CosineAnnealingRestartLR",
        "periods": [6, 8],
        "restart_weights": [1, 0.5],
        "eta_min": 1e-7,
    },
    "total_iter": 14,
    "warmup_iter": 3,
    "tsa_iter": 5,
    "dcn_lr_mul": 0.2,
    "ema_decay": 0.9,
    "pixel_opt": {"type": "CharbonnierLoss", "loss_weight": 0.5, "reduction": "sum"},
}


def batch(number: int) -> dict[str, Tensor]:
    """Returns two windows (2, 5, 3, 16, 16) and what to make of them (2, 3, 64, 64), another pair for each number."""
    b, c, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (2, 3, 64, 64)), indexing="ij")
    truth = [
        0.5 + 0.3 * torch.sin(0.21 * (x + t) + number + b) + 0.2 * torch.cos(0.13 * (y - t) * (1 + b) + c)
        for t in range(-2, 3)
    ]
    lq = torch.stack([torch.nn.functional.avg_pool2d(frame, 4) for frame in truth], dim=1)
    return {"lq": lq.float(), "gt": truth[2].float()}


def norms(weights: dict[str, Tensor]) -> dict[str, float]:
    """Returns the norm of every parameter."""
    return {name: value.norm().item() for name, value in weights.items()}
