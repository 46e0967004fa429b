"""Pictures of a memory's weights: which frames it read, and where in them; for ``--save_weights`` and reports.

All are (h, w, 3) uint8, BGR. Frames stand side by side, oldest first, under a title; brighter is more weight, black to
yellow, and the scale on the right shows the largest weight.
"""

from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from vsr.archs import EDVRMemory
from vsr.evaluation.draw.images import TITLE, canvas, enlarged, in_a_row, to_image, write_image, write_text
from vsr.evaluation.restore import Frame
from vsr.memory import Memory, PixSentence
from vsr.utils.errors import UserError
from vsr.utils.log import logger

PANEL = 160  # smallest height of a frame, in pixels
BAR, MARK = (60, 110, 220), (80, 255, 80)


class WeightPictures:
    """Draws the weights of a network's memory while it restores frames.

    Frames that are restored in tiles have no pictures: each tile reads the memory anew.

    Args:
        folder: for the files, ``FOLDER/CLIP/FRAME_NAME.png``.
        shown: (clip, frame) of those that are kept in ``drawn``, for the report.
        saves: whether pictures of all frames are written.
    """

    def __init__(self, folder: Path, shown: Collection[tuple[str, str]], saves: bool) -> None:
        self.folder, self.shown, self.saves = folder, shown, saves
        self.drawn: dict[tuple[str, str], dict[str, np.ndarray]] = {}  # memory_pictures by clip and frame

    def of(self, frames: Generator[Frame], network: nn.Module) -> Generator[Frame]:
        """Returns the frames that the network restores; their weights are drawn as they come.

        Raises:
            UserError: pictures are to be written, but the network has no memory.
        """
        if isinstance(network, EDVRMemory):
            return self._drawn(frames, network)
        if self.saves:
            raise UserError(f"--save_weights draws a memory's weights, but {type(network).__name__} has no memory")
        return frames

    def _drawn(self, frames: Generator[Frame], network: EDVRMemory) -> Generator[Frame]:
        center, memory = network.center_frame_idx, network.memory_fusion.memory
        labels = [f"{index - center:+d}" if index != center else "0" for index in range(network.num_frame)]
        reads: list[tuple[Tensor, Tensor]] = []  # query and sentences
        module, is_told = cast(nn.Module, memory), False  # a Memory is a module
        with closing(frames), module.register_forward_pre_hook(lambda _, inputs: reads.append(inputs[:2])):
            for frame in frames:
                name = frame.clip.name, frame.clip.frames[frame.index]
                if len(reads) > 1 and not is_told:
                    logger.warning("no pictures of the memory's weights: frames are restored in tiles")
                    is_told = True
                elif len(reads) == 1 and (self.saves or name in self.shown):
                    inputs = torch.stack(frame.inputs).cpu()
                    self._keep(*name, memory_pictures(memory, *reads[0], inputs, labels, center))
                reads.clear()  # drawing reads the memory again
                yield frame

    def _keep(self, clip: str, frame: str, pictures: dict[str, np.ndarray]) -> None:
        if self.saves:
            for kind, picture in pictures.items():
                write_image(self.folder / clip / f"{frame}_{kind}.png", picture)
        if (clip, frame) in self.shown:
            self.drawn[clip, frame] = pictures


@torch.no_grad()
def memory_pictures(
    memory: Memory, query: Tensor, sentences: Tensor, frames: Tensor, labels: Sequence[str], center: int
) -> dict[str, np.ndarray]:
    """Returns pictures of a memory's weights for one query, by name.

    ``frames`` if frames have a weight each (bars), ``maps`` if positions have (heat maps over the frames), and for a
    whole-space search also ``positions``: the weights of five positions of the query.

    Args:
        memory: a registered memory; frames that it forgets have weight 0.
        query: (1, c, h, w).
        sentences: (1, t, c, h, w).
        frames: (t, 3, H, W), RGB in [0, 1]: the sentences' pictures, H = n·h.
        labels: a title per frame, ASCII.
        center: index of the query's frame.
    """
    size, read = torch.tensor(query.shape[-2:]), memory(query, sentences, None, True)
    assert read.weights is not None, "they were requested"
    weights = read.weights[0].float().cpu()
    if weights.ndim == 1:
        return {"frames": weight_bars(weights, labels)}
    pictures = {"maps": weight_maps(weights, frames, labels)}
    if isinstance(memory, PixSentence):
        positions = torch.tensor([[1, 1], [1, 3], [2, 2], [3, 1], [3, 3]]) * size // 4
        at = memory.weights_at(query, sentences, positions.to(query.device))[0].float().cpu()
        pictures["positions"] = position_maps(at, frames, labels, positions / size, center)
    return pictures


def weight_bars(weights: Tensor, labels: Sequence[str]) -> np.ndarray:
    """Returns a bar per frame, and below it the weights of its R × R shifts, if any; ``weights`` is (t·R²,)."""
    by_frame = weights.unflatten(0, (len(labels), -1))  # (t, R²)
    window, highest, width = int(by_frame.shape[1] ** 0.5), float(weights.max()), PANEL // 2
    columns = {}
    for share, label in zip(by_frame, labels, strict=True):
        bar, total = canvas(PANEL, width), float(share.sum())
        top = round((PANEL - TITLE) * (1 - total)) + TITLE
        cv2.rectangle(bar, (12, top), (width - 12, PANEL - 1), BAR, -1)
        write_text(bar, f"{total:.2f}", top - 6)
        shifts = [_heat(share.view(window, window).numpy(), highest, width, width)] if window > 1 else []
        columns[label] = np.vstack([bar, *shifts])
    return _row(columns, highest if window > 1 else None)


def weight_maps(weights: Tensor, frames: Tensor, labels: Sequence[str]) -> np.ndarray:
    """Returns each frame under the map of its weight, summed over the shifts that were searched.

    ``weights`` is (t·R², h, w), of sum 1 at every position; ``frames`` (t, 3, H, W), RGB in [0, 1].
    """
    maps = weights.unflatten(0, (len(labels), -1)).sum(1).numpy()  # (t, h, w)
    panels, highest = {}, float(maps.max())
    for share, frame, label in zip(maps, frames, labels, strict=True):
        panels[f"{label}: mean {share.mean():.2f}"] = _overlay(share, frame, highest)
    return _row(panels, highest)


def position_maps(weights: Tensor, frames: Tensor, labels: Sequence[str], positions: Tensor, center: int) -> np.ndarray:
    """Returns a row per query position: the position in its frame, then its weights over every frame.

    A circle marks the largest weight of a row. Each row has its own scale, and shows the square root of the weights: a
    few of very many positions hold most of the weight.

    ``weights`` is (n, t, h, w), of sum 1 over (t, h, w); ``positions`` (n, 2), rows and columns as shares of height and
    width, in the frame ``center``; the others are those of :func:`memory_pictures`.
    """
    rows = []
    h, w = weights.shape[2:]
    for maps, (down, right) in zip(weights.numpy(), positions.tolist(), strict=True):
        panels = {"asked here": _marked(_picture(frames[center]), down, right)}
        best, row, column = np.unravel_index(maps.argmax(), maps.shape)
        for index, (share, frame, label) in enumerate(zip(maps, frames, labels, strict=True)):
            panel = _overlay(np.sqrt(share), frame, float(np.sqrt(maps.max())))
            if index == best:
                panel = _marked(panel, (row + 0.5) / h, (column + 0.5) / w)
            panels[f"{label}: sum {share.sum():.2f}"] = panel
        rows.append(_row(panels, float(maps.max())))
    return np.vstack(rows)


def _overlay(share: np.ndarray, frame: Tensor, highest: float) -> np.ndarray:
    """Returns the frame in gray with the colours of a map (h, w) over it."""
    picture = _picture(frame)
    gray = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(gray, 0.35, _heat(share, highest, *gray.shape[:2]), 0.65, 0)


def _heat(values: np.ndarray, highest: float, height: int, width: int) -> np.ndarray:
    """Returns a map in colours, enlarged."""
    levels = np.clip(values / max(highest, 1e-12) * 255, 0, 255).astype(np.uint8)
    return cv2.resize(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), (width, height), interpolation=cv2.INTER_NEAREST)


def _scale(height: int, highest: float) -> np.ndarray:
    """Returns the colour scale, from 0 at the bottom to ``highest``."""
    scale = canvas(height, 76)
    scale[TITLE:, 4:18] = _heat(np.linspace(highest, 0, height - TITLE)[:, None], highest, height - TITLE, 14)
    write_text(scale, f"{highest:.2g}", TITLE + 10, 20)
    return write_text(scale, "0", height - 3, 20)


def _picture(frame: Tensor) -> np.ndarray:
    """Returns a frame in pixels, enlarged to a height of at least PANEL."""
    picture = to_image(frame)
    return enlarged(picture, -(-PANEL // picture.shape[0]))


def _marked(picture: np.ndarray, down: float, right: float) -> np.ndarray:
    """Draws a circle, at a position given as shares of height and width."""
    h, w = picture.shape[:2]
    return cv2.circle(picture, (round(right * w), round(down * h)), 7, MARK, 2)


def _row(panels: dict[str, np.ndarray], highest: float | None) -> np.ndarray:
    """Returns panels side by side under their titles; with ``highest``, the scale is at the right."""
    pictures = in_a_row(panels)
    return pictures if highest is None else np.hstack([pictures, _scale(len(pictures), highest)])
