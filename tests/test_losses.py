"""Pixel losses: their definitions, their gradients, and what they refuse."""

import inspect

import pytest
import torch

from vsr import registry
from vsr.losses import charbonnier_loss, l1_loss, mse_loss, weighted_tv_loss

SR = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
GT = torch.tensor([0.0, 0.25, 1.5], dtype=torch.float64)


@pytest.mark.parametrize(
    ("loss", "values"),
    [(l1_loss, [0, 0.25, 0.5]), (mse_loss, [0, 0.0625, 0.25]), (charbonnier_loss, [1e-6, 0.25, 0.5])],
)
def test_values(loss, values):
    assert loss(SR, GT, reduction="sum").item() == pytest.approx(sum(values), rel=1e-6)
    assert loss(SR, GT).item() == pytest.approx(sum(values) / 3, rel=1e-6)
    assert loss(SR, GT, loss_weight=2.0).item() == pytest.approx(2 * sum(values) / 3, rel=1e-6)


FUNCTIONS = [name for name in registry.names("loss") if not inspect.isclass(registry.find("loss", name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_loss_has_right_gradients_and_refuses_other_shapes(name):
    loss = registry.find("loss", name)
    sr = torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, torch.zeros_like(x) - 0.1), (sr,))
    with pytest.raises(ValueError, match="check `scale`"):
        loss(sr, torch.zeros(2, 3, 8, 8))
    assert loss(sr, sr.detach() + 1, loss_weight=0.0).item() == 0


def test_charbonnier_is_smooth_at_zero_error():
    sr = torch.zeros(4, requires_grad=True)
    charbonnier_loss(sr, torch.zeros(4)).backward()
    assert torch.equal(sr.grad, torch.zeros(4))


def test_total_variation_sums_the_means_of_rows_and_columns():
    """BasicSR's definition: the two means have different numbers of values."""
    sr = torch.tensor([[0.0, 1.0, 3.0], [0.5, 0.5, 0.0]], requires_grad=True)
    rows, columns = 0.5 + 0.5 + 3.0, 1.0 + 2.0 + 0.0 + 0.5
    gt = torch.full_like(sr, 7.0)
    assert weighted_tv_loss(sr, gt).item() == pytest.approx(rows / 3 + columns / 4)
    assert weighted_tv_loss(sr, gt, loss_weight=2.0, reduction="sum").item() == pytest.approx(2 * (rows + columns))
    clip = torch.stack([sr, sr])[None, :, None].expand(2, 2, 3, 2, 3)
    assert weighted_tv_loss(clip, clip).item() == pytest.approx(rows / 3 + columns / 4)
