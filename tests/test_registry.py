"""The registry: a new component is one file with one decorator, inside the package too."""

import sys

import pytest

import vsr.losses
from vsr import registry

NEW_LOSS = '''
from torch import Tensor
from vsr.registry import register


@register("loss", "Dropped")
def dropped(sr: Tensor, gt: Tensor, /, power: int = 2) -> Tensor:
    """Returns the mean of |sr - gt| to a power."""
    return (sr - gt).abs().pow(power).mean()
'''


@pytest.mark.parametrize("folder", ["", "deeper"])
def test_a_file_dropped_into_a_package_is_found(tmp_path, monkeypatch, folder):
    monkeypatch.setattr(registry, "_components", {kind: {**known} for kind, known in registry._components.items()})
    monkeypatch.setattr(vsr.losses, "__path__", [*vsr.losses.__path__, str(tmp_path)])
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "__init__.py").touch() if folder else None
    (tmp_path / folder / f"new_loss{folder}.py").write_text(NEW_LOSS)
    registry._import_all.cache_clear()
    try:
        assert "Dropped" in registry.names("loss")
        assert registry.name_of(registry.find("loss", "Dropped")) == ("loss", "Dropped")
        with pytest.raises(ValueError, match="unknown loss 'Droped'; did you mean 'Dropped'"):
            registry.find("loss", "Droped")
    finally:
        registry._import_all.cache_clear()
        for name in [name for name in sys.modules if name.startswith(("vsr.losses.new_loss", "vsr.losses.deeper"))]:
            del sys.modules[name]
