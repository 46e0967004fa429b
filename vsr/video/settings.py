"""The settings of ``vsr upscale``."""

from fractions import Fraction
from typing import NamedTuple

import torch

from vsr.engine.precision import Precision
from vsr.evaluation.restoring.calls import OVERLAP, TILE_OVERLAP


class Settings(NamedTuple):
    """The command line of ``vsr upscale``; see its help."""

    device: torch.device
    precision: Precision = "auto"
    tile: int | None = None
    tile_overlap: int = TILE_OVERLAP
    segment: int | None = None
    overlap: int = OVERLAP
    scene_cut: str = "auto"
    height: int | None = None
    scale: float | None = None
    codec: str = "libx264"
    crf: float = 18
    pix_fmt: str | None = None
    hdr: str = "keep"
    start: int = 0
    frames: int | None = None
    overwrite: bool = False
    audio: bool = True
    png: bool = False
    preview: int | None = None
    side_by_side: bool = False
    dry_run: bool = False
    fps: Fraction = Fraction(25)
