"""Pictures of a memory's weights: which frames it read, and where in them; for ``--save_weights`` and reports.

All are (h, w, 3) uint8, BGR. Frames stand side by side, oldest first, under a title, with a scale at the right.
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
from vsr.evaluation.draw.images import GAP, TITLE, canvas, enlarged, in_a_row, to_image, write_image, write_text
from vsr.evaluation.restore import Frame
from vsr.memory import Memory, PixSentence
from vsr.utils.errors import UserError
from vsr.utils.log import logger

PANEL = 160  # smallest height of a frame, in pixels
BARS = 60  # height of the highest bar
SCALE = 76  # width of a scale
BAR, MARK = (60, 110, 220), (80, 255, 80)
MORE, LESS = (0, 90, 255), (255, 110, 0)  # orange and blue, of weights above and below an even share


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
    whole-space search also ``positions``: the weights of three positions of the query.

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
        return {"frames": weight_bars(weights, frames, labels)}
    pictures = {"maps": weight_maps(weights, frames, labels)}
    if isinstance(memory, PixSentence):
        positions = torch.tensor([[1, 1], [2, 2], [3, 3]]) * size // 4
        at = memory.weights_at(query, sentences, positions.to(query.device))[0].float().cpu()
        pictures["positions"] = position_maps(at, frames, labels, positions / size, center)
    return pictures


def weight_bars(weights: Tensor, frames: Tensor, labels: Sequence[str]) -> np.ndarray:
    """Returns a bar per frame, as wide as the frame, and below it the weights of its R × R shifts, if any.

    The highest bar has a height of BARS. The colours of the shifts are those of :func:`_tinted`; an even share is
    1 / (t·R²).

    ``weights`` is (t·R²,), of sum 1; ``frames`` (t, 3, H, W).
    """
    by_frame = weights.unflatten(0, (len(labels), -1)).numpy()  # (t, R²)
    totals, shares, width = by_frame.sum(1), by_frame * len(weights), _gray(frames[0]).shape[1]
    window, side, columns = int(by_frame.shape[1] ** 0.5), PANEL // 2, {}
    for share, total, label in zip(shares, totals, labels, strict=True):
        column = canvas(BARS, width)
        cv2.rectangle(column, (12, round(BARS * (1 - total / totals.max()))), (width - 12, BARS - 1), BAR, -1)
        if window > 1:
            below = canvas(GAP + side, width)
            shifts = share.reshape(window, window)
            below[GAP:, 12 : 12 + side] = _tinted(shifts, shares.max(), np.full((side, side, 3), 160, np.uint8))
            column = np.vstack([column, below])
        columns[f"{label}: {total:.2f}"] = column
    row = in_a_row(columns)
    return _with_scale(row, shares.max()) if window > 1 else row


def weight_maps(weights: Tensor, frames: Tensor, labels: Sequence[str]) -> np.ndarray:
    """Returns each frame in gray under the map of its weight, summed over the shifts that were searched.

    The colours are those of :func:`_tinted`; an even share is 1 / t.

    ``weights`` is (t·R², h, w), of sum 1 at every position; ``frames`` (t, 3, H, W), RGB in [0, 1].
    """
    maps = weights.unflatten(0, (len(labels), -1)).sum(1).numpy()  # (t, h, w)
    shares, highest = maps * len(labels), maps.max() * len(labels)
    titles = [f"{label}: mean {part.mean():.2f}" for label, part in zip(labels, maps, strict=True)]
    panels = [_tinted(part, highest, _gray(frame)) for part, frame in zip(shares, frames, strict=True)]
    return _with_scale(in_a_row(dict(zip(titles, panels, strict=True))), highest)


def position_maps(weights: Tensor, frames: Tensor, labels: Sequence[str], positions: Tensor, center: int) -> np.ndarray:
    """Returns a row per query position: every frame in gray under the map of its weights.

    A cross marks the query's position, and a circle the largest weight of a row. The colours are those of
    :func:`_tinted`; an even share is 1 / (t·h·w). Each row has its own scale.

    ``weights`` is (n, t, h, w), of sum 1 over (t, h, w); ``positions`` (n, 2), rows and columns as shares of height and
    width, in the frame ``center``; the others are those of :func:`memory_pictures`.
    """
    rows = []
    h, w = weights.shape[2:]
    for maps, (down, right) in zip(weights.numpy(), positions.tolist(), strict=True):
        panels, shares = {}, maps * maps.size
        best, row, column = np.unravel_index(maps.argmax(), maps.shape)
        for index, (share, frame, label) in enumerate(zip(shares, frames, labels, strict=True)):
            panel = _tinted(share, shares.max(), _gray(frame))
            if index == best:
                panel = cv2.circle(panel, _at(panel, (row + 0.5) / h, (column + 0.5) / w), 9, MARK, 2)
            if index == center:
                panel = cv2.drawMarker(panel, _at(panel, down, right), MARK, cv2.MARKER_CROSS, 9, 2)
            panels[f"{label}: sum {maps[index].sum():.2f}"] = panel
        rows.append(_with_scale(in_a_row(panels), shares.max()))
    return np.vstack(rows)


def _gray(frame: Tensor) -> np.ndarray:
    """Returns a frame without its colours, in pixels, enlarged to a height of at least PANEL."""
    gray = cv2.cvtColor(to_image(frame), cv2.COLOR_BGR2GRAY)
    return enlarged(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), -(-PANEL // len(gray)))


def _tinted(shares: np.ndarray, highest: float, image: np.ndarray) -> np.ndarray:
    """Returns an image coloured by weights (h, w), given in multiples of an even share.

    The image is unchanged at 1, an even share, more is orange and less is blue, in steps of equal ratios; ``highest``
    has the full colour, as has 1 / ``highest``.
    """
    values = np.log(np.maximum(shares, 1e-12)) / max(np.log(highest), 1e-6)
    values = cv2.resize(values.clip(-1, 1).astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    strength, colour = np.abs(values)[..., None], np.where(values[..., None] > 0, MORE, LESS).astype(np.float32)
    return (image + strength * (colour - image)).round().astype(np.uint8)


def _with_scale(row: np.ndarray, highest: float) -> np.ndarray:
    """Returns a row of tinted panels with their scale at the right, in multiples of an even share."""
    scale, height = canvas(len(row), SCALE), len(row) - TITLE
    ramp = np.exp(np.linspace(1, -1, height) * np.log(highest))[:, None]
    scale[TITLE:, 4:18] = _tinted(ramp, highest, np.full((height, 14, 3), 160, np.uint8))
    for bottom, share in ((TITLE + 10, highest), (TITLE + height // 2 + 4, 1), (len(row) - 3, 1 / highest)):
        write_text(scale, f"{share:.4g}x", bottom, 22)
    return np.hstack([row, scale])


def _at(picture: np.ndarray, down: float, right: float) -> tuple[int, int]:
    """Returns the column and row of a position given as shares of height and width."""
    h, w = picture.shape[:2]
    return round(right * w), round(down * h)
