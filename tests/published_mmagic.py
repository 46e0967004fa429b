"""Imports mmagic's RealBasicVSR for those who have its files: ``pip install --no-deps mmagic==1.2.0``.

Of its packages only the modules needed are run; mmengine and mmcv, which it imports, are stood in for.
"""

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import torch.nn as nn
from torch import Tensor


class ConvModule(nn.Module):
    """Stands in for mmcv's: a convolution, and a ReLU unless ``act_cfg`` is None."""

    def __init__(self, *sizes: int, norm_cfg: None = None, act_cfg: object = "ReLU", **options) -> None:
        super().__init__()
        self.conv = nn.Conv2d(*sizes, **options)
        self.activate = nn.Identity() if act_cfg is None else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activated convolution."""
        return self.activate(self.conv(x))


class _StandIn(types.ModuleType):
    """A module in which every name is a mock."""

    def __getattr__(self, name: str) -> MagicMock:
        return MagicMock(name=f"{self.__name__}.{name}")


def _package(name: str, folder: Path, **content: object) -> None:
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    vars(package).update(content)
    sys.modules[name] = package


def published_real(**options) -> nn.Module:
    """Returns mmagic's RealBasicVSRNet; raises ImportError where mmagic is not there."""
    spec = importlib.util.find_spec("mmagic")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("mmagic")
    root = Path(next(iter(spec.submodule_search_locations)))
    registry = types.SimpleNamespace(register_module=lambda *_, **__: lambda component: component)
    stand_ins = {name: _StandIn(name) for name in ("mmengine", "mmengine.runner", "mmengine.registry", "mmengine.dist")}
    stand_ins |= {"mmengine.model": _StandIn("mmengine.model"), "mmcv": _StandIn("mmcv"), "mmcv.cnn": _StandIn("c")}
    stand_ins["mmengine.model"].BaseModule = nn.Module
    stand_ins["mmcv.cnn"].ConvModule = ConvModule
    stand_ins["mmagic.registry"] = types.SimpleNamespace(MODELS=registry, MODULES=registry)
    before = dict(sys.modules)
    try:
        sys.modules.update(stand_ins)
        for name in ("mmagic", "mmagic.models", "mmagic.models.editors"):
            _package(name, root.joinpath(*name.split(".")[1:]))
        for name in ("basicvsr", "real_basicvsr"):
            _package(f"mmagic.models.editors.{name}", root / "models" / "editors" / name)
        _package("mmagic.models.utils", root / "models" / "utils", default_init_weights=_scaled, make_layer=_row)
        sys.modules["mmagic.models.utils"].flow_warp = importlib.import_module(
            "mmagic.models.utils.flow_warp"
        ).flow_warp
        _package("mmagic.models.archs", root / "models" / "archs")
        for module, name in (("sr_backbone", "ResidualBlockNoBN"), ("upsample", "PixelShufflePack")):
            content = getattr(importlib.import_module(f"mmagic.models.archs.{module}"), name)
            setattr(sys.modules["mmagic.models.archs"], name, content)
        module = importlib.import_module("mmagic.models.editors.real_basicvsr.real_basicvsr_net")
        return module.RealBasicVSRNet(**options)
    finally:
        for name in set(sys.modules) - set(before):
            if name.startswith(("mmagic", "mmengine", "mmcv")):
                del sys.modules[name]


def _scaled(module: nn.Module, scale: float = 1) -> None:
    """Stands in for mmagic's initialisation, which the tests replace."""


def _row(block: type[nn.Module], count: int, **options) -> nn.Sequential:
    """Returns ``count`` blocks in a row, as mmagic's ``make_layer`` does."""
    return nn.Sequential(*(block(**options) for _ in range(count)))
