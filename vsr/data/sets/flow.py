"""Optical flow between two small frames, computed once and kept on disk."""

import logging
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from vsr.utils.files import write_atomically

_HEADER = struct.Struct("<4sIIII")  # name of the format, height, width, checksums of the frames and of the flow
_FORMAT = b"flo1"
MIN_SIDE = 12  # pixels; OpenCV's estimator takes no smaller frames

_log = logging.getLogger(__name__)


def backward_flow(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Returns where in ``source`` each pixel of ``target`` comes from: target(x) ≈ source(x + flow(x)).

    Args:
        target: (h, w, 3) uint8 RGB.
        source: the same size.

    Returns:
        (2, h, w) float32, pixels; channel 0 is x (right), channel 1 is y (down).

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
    """Flows on disk, FOLDER/64x64/CLIP/000550-000600.flow, each with the checksums of its frames and of itself.

    A file that is damaged, or of other pixels, is computed and written anew. Where nothing can be written, flows are
    computed each time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._is_writable = True

    def read(self, target: np.ndarray, source: np.ndarray, name: str) -> np.ndarray:
        """Returns :func:`backward_flow` of two frames; ``name``, "CLIP/000550-000600", says where it is kept."""
        h, w = target.shape[:2]
        file = self.folder / f"{w}x{h}" / f"{name}.flow"
        frames = zlib.crc32(np.stack([target, source]).tobytes())
        flow = _load(file, (h, w), frames)
        if flow is None:
            flow = backward_flow(target, source)
            self._save(file, flow, frames)
        return flow

    def _save(self, file: Path, flow: np.ndarray, frames: int) -> None:
        """Writes a flow; not flushed: its checksum finds a torn file."""
        if not self._is_writable:
            return
        data = flow.tobytes()
        content = _HEADER.pack(_FORMAT, *flow.shape[1:], frames, zlib.crc32(data)) + data
        try:
            write_atomically(file, lambda stream: stream.write(content), flush=False)
        except OSError as error:
            self._is_writable = False
            _log.warning(
                "flow_cache: cannot write to '%s' (%s): flows are computed each time", self.folder, error.strerror
            )


def _load(file: Path, size: tuple[int, int], frames: int) -> np.ndarray | None:
    """Returns the flow in a file, None where there is none, it is damaged, or it is of other frames."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    length = _HEADER.size + 8 * size[0] * size[1]
    if len(content) != length:
        return None
    header, data = _HEADER.unpack_from(content), content[_HEADER.size :]
    if header != (_FORMAT, *size, frames, zlib.crc32(data)):
        return None
    return np.frombuffer(data, np.float32).reshape(2, *size).copy()
