"""Pictures of a memory's weights: which frames it read, and where in them; ``python -m vsr.test … --save_weights``.

All are (h, w, 3) uint8, BGR. Frames stand side by side, oldest first, under a title; brighter is more weight, black to
yellow, and the scale on the right shows the largest weight.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from vsr.archs import EDVRMemory
from vsr.evaluation.draw.images import to_image, write_image
from vsr.evaluation.restore import Frame
from vsr.memory import Memory, PixSentence
from vsr.memory.hops import num_kept
from vsr.utils.errors import UserError

PANEL = 160  # smallest height of a frame, in pixels
TITLE = 22  # height of a line of text
GAP = 6
WHITE, BLACK, GRAY = (255, 255, 255), (0, 0, 0), (150, 150, 150)
BAR, MARK = (60, 110, 220), (80, 255, 80)


def with_weight_pictures(frames: Generator[Frame], network: nn.Module, folder: Path) -> Generator[Frame]:
    """Yields the frames and writes ``folder/CLIP/FRAME_NAME.png`` of each; see ``memory_pictures`` for the names.

    Args:
        frames: as this network restores them.
        network: an EDVRMemory.
        folder: receives the pictures.

    Raises:
        UserError: the network has no memory.
    """
    if not isinstance(network, EDVRMemory):
        raise UserError(f"--save_weights draws a memory's weights, but {type(network).__name__} has no memory")
    center, memory = network.center_frame_idx, network.memory_fusion.memory
    labels = [f"{index - center:+d}" if index != center else "0" for index in range(network.num_frame)]
    reads: list[tuple[Tensor, Tensor]] = []  # query and sentences
    with closing(frames), memory.register_forward_pre_hook(lambda _, inputs: reads.append(inputs[:2])):
        for frame in frames:
            query, sentences = reads[0]
            pictures = memory_pictures(memory, query, sentences, frame.inputs.cpu(), labels, center)
            for name, picture in pictures.items():
                write_image(folder / frame.clip.name / f"{frame.clip.frames[frame.index]}_{name}.png", picture)
            reads.clear()  # drawing reads the memory again
            yield frame


def memory_pictures(
    memory: Memory, query: Tensor, sentences: Tensor, frames: Tensor, labels: Sequence[str], center: int
) -> dict[str, np.ndarray]:
    """Returns pictures of a memory's weights for one query, by name.

    ``frames`` for one weight a frame (bars), ``maps`` for a weight a position (heat maps over the frames), and for a
    whole-space search also ``positions``: where five positions of the query look.

    Args:
        memory: a registered memory; frames that it forgets have weight 0.
        query: (1, c, h, w).
        sentences: (1, t, c, h, w).
        frames: (t, 3, H, W), RGB in [0, 1]: the pictures that the sentences are features of, H = n·h.
        labels: a title per frame, ASCII.
        center: the frame that the query is a feature of.
    """
    with torch.no_grad():
        t = sentences.shape[1]
        read = memory(query, sentences, None, True)
        assert read.weights is not None, "they were asked for"
        weights = read.weights[0].float().cpu()
        weights = _with_forgotten(weights.unflatten(0, (num_kept(memory, t), -1)), 0, t).flatten(0, 1)
        if weights.ndim == 1:
            return {"frames": weight_bars(weights, labels)}
        pictures = {"maps": weight_maps(weights, frames, labels)}
        if isinstance(memory, PixSentence):
            h, w = query.shape[-2:]
            positions = torch.tensor([[1, 1], [1, 3], [2, 2], [3, 1], [3, 3]]) * torch.tensor([h, w]) // 4
            at = memory.weights_at(query, sentences, positions.to(query.device))[0].float().cpu()
            shares = positions / torch.tensor([h, w])
            pictures["positions"] = position_maps(_with_forgotten(at, 1, t), frames, labels, shares, center)
    return pictures


def weight_bars(weights: Tensor, labels: Sequence[str]) -> np.ndarray:
    """Returns a bar per frame, and below it, where shifts were searched, the weights of the R × R shifts.

    Args:
        weights: (t·R²,), of sum 1.
        labels: a title per frame.
    """
    by_frame = weights.unflatten(0, (len(labels), -1))  # (t, R²)
    window = int(by_frame.shape[1] ** 0.5)
    columns = []
    for share, label in zip(by_frame, labels, strict=True):
        bar = _canvas(PANEL, PANEL // 2)
        total = float(share.sum())
        top = round((PANEL - TITLE) * (1 - total)) + TITLE
        cv2.rectangle(bar, (12, top), (PANEL // 2 - 12, PANEL - 1), BAR, -1)
        _write(bar, f"{total:.2f}", top - 6)
        parts = [_titled(label, bar)]
        if window > 1:
            shifts = _heat(share.view(window, window).numpy(), float(weights.max()))
            parts.append(cv2.resize(shifts, (PANEL // 2, PANEL // 2), interpolation=cv2.INTER_NEAREST))
        columns.append(np.vstack(parts))
    side = [] if window == 1 else [_scale(columns[0].shape[0], float(weights.max()))]
    return _beside([*columns, *side])


def weight_maps(weights: Tensor, frames: Tensor, labels: Sequence[str]) -> np.ndarray:
    """Returns each frame under the map of its weight, summed over the shifts that were searched.

    Args:
        weights: (t·R², h, w), of sum 1 at every position.
        frames: (t, 3, H, W), RGB in [0, 1].
        labels: a title per frame.
    """
    maps = weights.unflatten(0, (len(labels), -1)).sum(1).numpy()  # (t, h, w)
    highest = float(maps.max())
    panels = [
        _titled(f"{label}: mean {share.mean():.2f}", _overlay(share, frame, highest))
        for share, frame, label in zip(maps, frames, labels, strict=True)
    ]
    return _beside([*panels, _scale(panels[0].shape[0], highest)])


def position_maps(weights: Tensor, frames: Tensor, labels: Sequence[str], positions: Tensor, center: int) -> np.ndarray:
    """Returns a row per query position: the position in its frame, then its weights over every frame.

    A circle is around the largest weight of a row. Each row has a scale of its own, and shows the square root of the
    weights: a few of very many positions hold most of it.

    Args:
        weights: (n, t, h, w), of sum 1 over (t, h, w).
        frames: (t, 3, H, W), RGB in [0, 1].
        labels: a title per frame.
        positions: (n, 2), rows and columns as shares of height and width.
        center: the frame that the positions are in.
    """
    rows = []
    for maps, (down, right) in zip(weights.numpy(), positions.tolist(), strict=True):
        asked = _enlarged(to_image(frames[center]))
        cv2.circle(asked, (round(right * asked.shape[1]), round(down * asked.shape[0])), 7, MARK, 2)
        panels = [_titled("asked here", asked)]
        frame, row, column = np.unravel_index(maps.argmax(), maps.shape)
        for index, (share, picture, label) in enumerate(zip(maps, frames, labels, strict=True)):
            panel = _overlay(np.sqrt(share), picture, float(np.sqrt(maps.max())))
            if index == frame:
                h, w = maps.shape[1:]
                at = (round((column + 0.5) / w * panel.shape[1]), round((row + 0.5) / h * panel.shape[0]))
                cv2.circle(panel, at, 7, MARK, 2)
            panels.append(_titled(f"{label}: sum {share.sum():.2f}", panel))
        rows.append(_beside([*panels, _scale(panels[0].shape[0], float(maps.max()))]))
    return np.vstack(rows)


def _with_forgotten(weights: Tensor, dim: int, num_frames: int) -> Tensor:
    """Returns the weights of ``num_frames`` frames along ``dim``: 0 for the oldest, which a memory did not keep."""
    shape = list(weights.shape)
    shape[dim] = num_frames - shape[dim]
    return torch.cat([weights.new_zeros(shape), weights], dim)


def _overlay(share: np.ndarray, frame: Tensor, highest: float) -> np.ndarray:
    """Returns the frame in gray with the colours of a map (h, w) over it."""
    picture = _enlarged(to_image(frame))
    gray = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    colours = cv2.resize(_heat(share, highest), gray.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return cv2.addWeighted(gray, 0.35, colours, 0.65, 0)


def _heat(values: np.ndarray, highest: float) -> np.ndarray:
    levels = np.clip(values / max(highest, 1e-12) * 255, 0, 255).astype(np.uint8)
    return cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)


def _scale(height: int, highest: float) -> np.ndarray:
    """Returns the colour scale, from 0 at the bottom to ``highest``."""
    scale = _canvas(height, 70)
    scale[TITLE:, 4:18] = _heat(np.linspace(highest, 0, height - TITLE)[:, None].repeat(14, 1), highest)
    for text, bottom in ((f"{highest:.2g}", TITLE + 10), ("0", height - 3)):
        cv2.putText(scale, text, (20, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.4, BLACK, 1, cv2.LINE_AA)
    return scale


def _enlarged(picture: np.ndarray) -> np.ndarray:
    factor = max(1, -(-PANEL // picture.shape[0]))
    return np.ascontiguousarray(picture.repeat(factor, 0).repeat(factor, 1))


def _beside(panels: Sequence[np.ndarray]) -> np.ndarray:
    gap = _canvas(panels[0].shape[0], GAP)
    return np.hstack([piece for panel in panels for piece in (panel, gap)])


def _titled(text: str, picture: np.ndarray) -> np.ndarray:
    line = _canvas(TITLE, picture.shape[1])
    _write(line, text, TITLE - 7)
    return np.vstack([line, picture])


def _write(image: np.ndarray, text: str, bottom: int) -> None:
    cv2.putText(image, text, (6, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.45, BLACK, 1, cv2.LINE_AA)


def _canvas(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), WHITE, np.uint8)
