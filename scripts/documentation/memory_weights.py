r"""Writes docs/pictures/memory_weights.jpg: what the memories of trained networks weigh on one frame of a clip.

    python scripts/documentation/memory_weights.py --clip datasets/demo/train_sharp_bicubic/X4/001 --frame 7 \
        --square 14 62 80 WEIGHTS

WEIGHTS are ``.safetensors`` files of ``vsr train``, one or several. The first row shows the frames that they read, the
restored one in the middle; each network adds the pictures that ``vsr test --save_weights`` writes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from vsr.archs import EDVRMemory
from vsr.contracts import Clip
from vsr.data import VideoTestDataset
from vsr.evaluation.draw.images import canvas, enlarged, in_a_row, to_bgr, to_image
from vsr.evaluation.draw.memory import PANEL, WeightPictures
from vsr.evaluation.restore import Frame, restore, steps_of
from vsr.utils.errors import UserError, exit_cleanly
from vsr.video.network import load_network

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "memory_weights.jpg"
HEADING = 34  # height of a heading, in pixels
TITLES = {
    "PixSim": "pixsim: one weight for each frame",
    "PixWise": "pixwise: a weight for each position of each frame. Gray: an even share, orange: more, blue: less",
    "PixSentence": "pixsentence: a position weighs all positions of all frames. Cross: query, circle: largest weight",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", nargs="+", type=Path, metavar="WEIGHTS")
    parser.add_argument("--clip", required=True, metavar="FOLDER", help="the LQ frames of one clip")
    parser.add_argument("--frame", type=int, default=0, metavar="N", help="index of the restored frame (%(default)s)")
    parser.add_argument("--square", type=int, nargs=3, required=True, metavar=("TOP", "LEFT", "SIDE"))
    parser.add_argument("--to", type=Path, default=PICTURE, metavar="FILE", help="(docs/pictures/memory_weights.jpg)")
    args = parser.parse_args(arguments)
    (whole,) = VideoTestDataset(args.clip, None, num_frame=5)  # one folder is one clip
    clip = square(whole, args.frame, *args.square)
    rows: list[np.ndarray] = []
    for file in args.weights:
        network, spec, *_ = load_network(str(file), None, [], torch.device("cpu"))
        if not isinstance(network, EDVRMemory):
            raise UserError(f"{file} is of {type(network).__name__}, which has no memory")
        name = clip.name, clip.frames[args.frame]
        pictures = WeightPictures(args.to.parent, [name], saves=False)
        (frame,) = pictures.of(restore(network, steps_of(spec, [clip]), torch.device("cpu")), network)
        drawn, memory = pictures.drawn[name], type(network.memory_fusion.memory).__name__
        rows += [] if rows else [frames_read(frame, network.center_frame_idx)]
        rows += [heading(TITLES[memory]), drawn.get("positions", next(iter(drawn.values())))]
    width = max(row.shape[1] for row in rows)
    rows = [np.hstack([row, canvas(len(row), width - row.shape[1])]) for row in rows]
    cv2.imwrite(str(args.to), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 80])
    print(f"{args.to}: {args.to.stat().st_size / 1000:.0f} kB")


def square(clip: Clip, frame: int, top: int, left: int, side: int) -> Clip:
    """Returns a clip of the same square of every frame, one frame of which is restored."""

    def lq(index: int) -> np.ndarray:
        return np.ascontiguousarray(clip.lq(index)[top : top + side, left : left + side])

    return clip._replace(lq=lq, targets=range(frame, frame + 1))


def frames_read(frame: Frame, center: int) -> np.ndarray:
    """Returns the frames side by side, the restored one in the place of the frame of its time."""
    pixels = [to_image(lq) for lq in frame.inputs]
    panels = {f"{index - center:+d}": enlarged(image, -(-PANEL // len(image))) for index, image in enumerate(pixels)}
    size = panels["+0"].shape[1::-1]
    panels["+0"] = cv2.resize(to_bgr(frame.sr), size, interpolation=cv2.INTER_AREA)
    return in_a_row({"0, restored" if title == "+0" else title: panel for title, panel in panels.items()})


def heading(text: str) -> np.ndarray:
    """Returns a line of larger text."""
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.55, 1)
    line = canvas(HEADING, width + 12)
    return cv2.putText(line, text, (6, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)


if __name__ == "__main__":
    exit_cleanly(main)
