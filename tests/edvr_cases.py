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
