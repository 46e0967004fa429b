"""Optical flow between two small frames, computed once and kept on disk."""

import logging
import zlib
from contextlib import suppress
from pathlib import Path
from tokenize import TokenError

import cv2
import numpy as np

from vsr.utils.files import write_atomically

MIN_SIDE = 12  # pixels; the smallest frames of OpenCV's estimator

_log = logging.getLogger(__name__)


def backward_flow(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Returns where in ``source`` each pixel of ``target`` comes from: target(x) ≈ source(x + flow(x)).

    Both are (h, w, 3) uint8 RGB; the flow is (2, h, w) float32 in pixels, x (right) before y (down).

    Raises:
        ValueError: the frames are too small.

    Reference:
        Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016; OpenCV's, medium preset.
    """
    if min(target.shape[:2]) < MIN_SIDE:
        raise ValueError(f"frames of {target.shape[0]} x {target.shape[1]} are too small for flow, at least {MIN_SIDE}")
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    estimator.setFinestScale(0)  # the preset's half resolution is made for larger frames
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (target, source)]
    flow = estimator.calc(*grey, None)  # type: ignore[call-overload]  # (h, w, 2); None is missing in OpenCV's types
    return np.ascontiguousarray(flow.transpose(2, 0, 1))


class FlowCache:
    """Flows on disk, FOLDER/64x64/CLIP/000550-000600.CHECKSUM.npy, where the checksum is that of the two frames.

    A file that cannot be read is computed and written again. If nothing can be written, flows are computed each time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._is_writable = folder, True

    def read(self, target: np.ndarray, source: np.ndarray, name: str) -> np.ndarray:
        """Returns :func:`backward_flow` of two frames; ``name`` is "CLIP/000550-000600"."""
        h, w = target.shape[:2]
        file = self.folder / f"{w}x{h}" / f"{name}.{zlib.crc32(np.stack([target, source]).tobytes()):08x}.npy"
        with suppress(OSError, EOFError, ValueError, SyntaxError, TokenError):  # missing, cut off, or no array
            flow = np.load(file, mmap_mode="r")
            is_whole = file.stat().st_size == flow.offset + flow.nbytes
            if is_whole and flow.shape == (2, h, w) and flow.dtype == np.float32:
                return np.array(flow)
        flow = backward_flow(target, source)
        if self._is_writable:
            try:  # not flushed: after a power failure a file is complete or too short
                write_atomically(file, lambda stream: np.save(stream, flow), flush=False)
            except OSError as error:
                self._is_writable = False
                text = "flow_cache: cannot write to '%s' (%s): flows are computed each time"
                _log.warning(text, self.folder, error.strerror)
        return flow
