"""Marks of what runs here, and a way to insist on one back end."""

import pytest
import torch

from vsr.ops import backend

compiled = pytest.mark.skipif(
    backend.library("cpu").problem is not None, reason=f"no compiled CPU kernels: {backend.library('cpu').problem}"
)
gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICES = [pytest.param("cpu"), pytest.param("cuda", marks=gpu)]


def insist_on(name, monkeypatch):
    monkeypatch.setenv("VSR_OPS", name)
    backend.choices.clear()
