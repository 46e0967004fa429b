"""Every network of the option files, run on a GPU that is only imitated: nothing is made on another device.

FakeTensorMode computes shapes, types and devices, no numbers, and refuses operands on two devices, as a GPU would.
"""

from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from vsr import config

pytestmark = pytest.mark.skipif(torch.version.cuda is None, reason="a CPU build of PyTorch cannot imitate a GPU")
ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted(
    file
    for file in (ROOT / "options").rglob("*.yml")
    if file.name != "base.yml" and file.parent.name not in ("parts", "tables_demo")
)


@contextmanager
def autocast(dtype):
    """What torch.autocast("cuda", dtype) sets where there is a GPU; without one it does nothing."""
    torch.set_autocast_dtype("cuda", dtype)
    torch.set_autocast_enabled("cuda", dtype != torch.float32)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()


def test_the_imitation_refuses_operands_on_two_devices():
    with FakeTensorMode(), torch.device("cuda"), pytest.raises(RuntimeError, match=r"two (different )?devices"):
        torch.zeros(3) + torch.zeros(3, device="cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: str(file.relative_to(ROOT / "options")))
def test_networks_stay_on_their_device(file, dtype):
    options = config.load(file, missing_data="note")
    with FakeTensorMode(), torch.device("cuda"), autocast(dtype):
        network = options.network_g()
        if options.trainer.task == "next-frame":
            size = network.spec.frame_size
            query = torch.rand(2, 3, *size)
            output, weights = network(query, torch.rand(2, 5, 3, *size), return_weights=True)
            results = [network.frame_of(output, query), *weights]
        else:
            results = [network(torch.rand(2, 5, 3, 64, 64))]
    assert {result.device.type for result in results} == {"cuda"}
