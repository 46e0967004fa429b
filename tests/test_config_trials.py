"""Building each component of an options file once: what is refused, and with which words."""

import pytest
import torch
from torch import nn

from vsr.config.trials import TRIALS


class ReadsValues(nn.Module):
    """Rates of stochastic depth, as many networks compute them."""

    def __init__(self, read, num_feat=3):
        super().__init__()
        self.rates = read(torch.linspace(0, 0.1, 4))
        self.conv = nn.Conv2d(3, num_feat, 3)


@pytest.mark.parametrize(
    "read", [lambda x: [rate.item() for rate in x], lambda x: x.tolist(), lambda x: list(x.numpy()), lambda x: x.data]
)
def test_a_network_may_read_values_while_it_is_built(read):
    network = TRIALS["arch"](lambda: ReadsValues(read))
    assert len(network.rates) == 4


@pytest.mark.parametrize("read", [lambda x: x.tolist(), lambda x: x])
def test_sizes_that_cannot_be_are_told(read):
    with pytest.raises(ValueError, match="it cannot be built with these sizes"):
        TRIALS["arch"](lambda: ReadsValues(read, num_feat=2**60))
