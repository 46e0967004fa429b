"""Restored clips as videos."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np

from vsr.data.video.colors import Colors
from vsr.data.video.encoding import Encoding, encoder, output_colors

RATE = Fraction(25)  # frames per second; frames of a test set have no times


@contextmanager
def clip_videos(folder: Path) -> Generator[Callable[[str, np.ndarray], None]]:
    """Yields a function that writes the next frame of a clip, (h, w, 3) uint8 BGR, to FOLDER/CLIP.mp4.

    The frames of a clip have to follow each other. Videos are H.264 at crf 18, 4:4:4 where a side is odd.
    """
    with ExitStack() as stack:
        current: dict[str, Callable[[np.ndarray], None]] = {}

        def write(clip: str, image: np.ndarray) -> None:
            if clip not in current:
                stack.close()
                current.clear()
                h, w, _ = image.shape
                kind = "yuv444p" if h % 2 or w % 2 else "yuv420p"
                colors = output_colors(Colors(0), kind, h)
                file = folder / f"{clip}.mp4"
                file.parent.mkdir(parents=True, exist_ok=True)
                encoding = Encoding("libx264", 18, kind, h, w, RATE, colors, Fraction(1))
                current[clip] = stack.enter_context(encoder(str(file), encoding, "mp4")).write
            current[clip](image[..., ::-1])

        yield write
