"""Features and flows for the tests of the warp, and the same warp by grid_sample."""

import torch
from torch import Tensor

SIZES = {
    "plain": {},
    "many channels": {"c": 37},
    "a whole slab": {"c": 16, "h": 9, "w": 40},
    "one pixel": {"h": 1, "w": 1},
    "one row": {"h": 1},
    "one column": {"w": 1},
    "far outside": {"reach": 50.0},
    "empty batch": {"n": 0},
}


def make(n=2, c=3, h=7, w=11, reach=4.0, dtype=torch.float64, seed=0):
    """Returns features, a flow of some pixels, and a gradient of the output."""
    generator = torch.Generator().manual_seed(seed)
    x, grad = (torch.randn(n, c, h, w, generator=generator, dtype=torch.float64) for _ in range(2))
    flow = torch.randn(n, 2, h, w, generator=generator, dtype=torch.float64) * reach
    return x.to(dtype), flow.to(torch.promote_types(dtype, torch.float32)), grad.to(dtype)


def by_grid_sample(x: Tensor, flow: Tensor, padding: str) -> Tensor:
    """Returns what the published networks compute."""
    h, w = x.shape[-2:]
    column = torch.arange(w, dtype=flow.dtype, device=x.device) + flow[:, 0]
    row = torch.arange(h, dtype=flow.dtype, device=x.device).view(-1, 1) + flow[:, 1]
    grid = torch.stack([2 * column / max(w - 1, 1) - 1, 2 * row / max(h - 1, 1) - 1], -1)
    return torch.nn.functional.grid_sample(x, grid, "bilinear", padding, align_corners=True)
