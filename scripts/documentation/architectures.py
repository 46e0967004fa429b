"""Draws the architectures of docs/: python scripts/documentation/architectures.py [FOLDER] (docs/pictures)."""

import sys
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
STYLE = """
  text { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1c2430; text-anchor: middle }
  .small { font-size: 11.5px; fill: #566273 }
  rect { fill: #eef2f7; stroke: #8593a6; rx: 7 }
  rect.data { fill: #ffffff; stroke-dasharray: 4 3 }
  rect.memory { fill: #ffe9c7; stroke: #c07a10 }
  path { fill: none; stroke: #566273; stroke-width: 1.6; marker-end: url(#head) }
  marker path { fill: #566273; stroke: none; marker-end: none }
  .page { fill: #ffffff; stroke: none; rx: 0 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6ebf2 } .small { fill: #a9b6c6 } rect { fill: #242d3a; stroke: #6d7d92 }
    rect.data { fill: #161c25 } rect.memory { fill: #4d3511; stroke: #e0a040 } path { stroke: #a9b6c6 }
    marker path { fill: #a9b6c6 } .page { fill: #161c25; stroke: none }
  }
"""


class Box(NamedTuple):
    """A part of a network; x and y are its centre, in pixels."""

    x: float
    y: float
    title: str
    note: str = ""
    kind: str = "part"  # or data, memory
    width: float = 150
    height: float = 50

    def svg(self) -> str:
        """Returns the box with its one or two lines of text."""
        x, y = self.x - self.width / 2, self.y - self.height / 2
        lines = [f'<rect class="{self.kind}" x="{x:g}" y="{y:g}" width="{self.width:g}" height="{self.height:g}"/>']
        lines.append(f'<text x="{self.x:g}" y="{self.y + (-3 if self.note else 5):g}">{escape(self.title)}</text>')
        if self.note:
            lines.append(f'<text class="small" x="{self.x:g}" y="{self.y + 15:g}">{escape(self.note)}</text>')
        return "\n".join(lines)

    def left(self, dy: float = 0) -> tuple[float, float]:
        """Returns a point of the left border."""
        return self.x - self.width / 2, self.y + dy

    def right(self, dy: float = 0) -> tuple[float, float]:
        """Returns a point of the right border."""
        return self.x + self.width / 2, self.y + dy

    def top(self, dx: float = 0) -> tuple[float, float]:
        """Returns a point of the upper border."""
        return self.x + dx, self.y - self.height / 2

    def bottom(self, dx: float = 0) -> tuple[float, float]:
        """Returns a point of the lower border."""
        return self.x + dx, self.y + self.height / 2


def arrow(*points: tuple[float, float]) -> str:
    """Returns an arrow through points."""
    return '<path d="M' + " L".join(f"{x:g} {y:g}" for x, y in points) + '"/>'


def note(x: float, y: float, text: str) -> str:
    """Returns a line of small text, centred."""
    return f'<text class="small" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def drawing(width: int, height: int, title: str, *parts: str) -> str:
    """Returns an SVG picture, which follows the reader's light or dark colours."""
    head = '<marker id="head" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<defs>{head}<path d="M0 0L8 4L0 8z"/></marker></defs>',
        f'<rect class="page" width="{width}" height="{height}"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def edvr_memory() -> str:
    """Returns the drawing of EDVRMemory."""
    lq = Box(90, 50, "LQ frames", "b × t × 3 × h × w", "data")
    extract = Box(275, 50, "extraction", "pyramid of each frame")
    align = Box(460, 50, "PCD alignment", "to the centre frame")
    query = Box(650, 50, "query u", "centre frame's feature", "data")
    sentences = Box(460, 150, "sentences", "features of all t frames", "data")
    memory = Box(650, 150, "memory", "pixsim · pixwise · pixsentence", "memory", width=190)
    fuse = Box(650, 250, "fusion", "y = H u + o, or P [u; o]", "memory", width=190)
    rebuild = Box(460, 250, "reconstruction", "residual blocks")
    enlarge = Box(275, 250, "× 4", "pixel shuffle, + bilinear")
    sr = Box(90, 250, "SR frame", "b × 3 × 4h × 4w", "data")
    boxes = (lq, extract, align, query, sentences, memory, fuse, rebuild, enlarge, sr)
    around = 765.0
    return drawing(
        790,
        300,
        "EDVR with memory: the aligned centre frame asks a memory of all aligned frames",
        *(box.svg() for box in boxes),
        arrow(lq.right(), extract.left()),
        arrow(extract.right(), align.left()),
        arrow(align.right(), query.left()),
        arrow(align.bottom(), sentences.top()),
        arrow(query.bottom(), memory.top()),
        arrow(sentences.right(), memory.left()),
        arrow(memory.bottom(), fuse.top()),
        note(688, 205, "read o"),
        arrow(query.right(), (around, query.y), (around, fuse.y), fuse.right()),
        arrow(fuse.left(), rebuild.right()),
        arrow(rebuild.left(), enlarge.right()),
        arrow(enlarge.left(), sr.right()),
        arrow(lq.bottom(), (lq.x, 150), (enlarge.x, 150), enlarge.top()),
        note(200, 143, "centre frame"),
    )


def recurrent() -> str:
    """Returns the drawing of BasicVSR, and of the memory that MemoryBasicVSR adds."""
    parts, columns = [], [140, 420, 700]
    names = ["i − 1", "i", "i + 1"]
    back, forward = [], []
    for x, name in zip(columns, names, strict=True):
        lq = Box(x, 40, f"LQ frame {name}", kind="data", width=220, height=40)
        backward = Box(x - 62, 150, "backward", "trunk", width=96)
        onward = Box(x + 62, 240, "forward", "trunk", width=96)
        fusion = Box(x, 335, "fusion, × 4 head", "1 × 1 convolution; + bilinear", width=220)
        sr = Box(x, 415, f"SR frame {name}", kind="data", width=220, height=40)
        parts += [box.svg() for box in (lq, backward, onward, fusion, sr)]
        parts += [arrow(lq.bottom(-62), backward.top()), arrow(lq.bottom(62), onward.top())]
        parts += [arrow(backward.bottom(), fusion.top(-62)), arrow(onward.bottom(), fusion.top(62))]
        parts.append(arrow(fusion.bottom(), sr.top()))
        back.append(backward)
        forward.append(onward)
    for n in (0, 1):
        parts.append(arrow(back[n + 1].left(), back[n].right()))
        parts.append(arrow(forward[n].right(), forward[n + 1].left()))
        parts.append(note((forward[n].x + back[n + 1].left()[0]) / 2, 141, "warped by flow"))
        parts.append(note((forward[n].right()[0] + back[n + 1].x) / 2, 231, "warped by flow"))
    parts.append(
        note(420, 468, "The flow between neighbouring LQ frames is SpyNet's. MemoryBasicVSR asks a memory of the")
    )
    parts.append(
        note(420, 485, "of the branch's last states before each trunk, and adds what it reads to the warped state.")
    )
    return drawing(840, 500, "BasicVSR: a branch back and one forth in time, joined for every frame", *parts)


def frame_predictor() -> str:
    """Returns the drawing of FramePredictor."""
    sentences = Box(105, 70, "sentences", "past, b × t × 3 × h × w", "data", width=185)
    query = Box(105, 220, "query", "frame, b × 3 × h × w", "data", width=185)
    encoders = [Box(300, y, "encoder", text, width=130) for y, text in ((70, "the same, or its own"), (220, ""))]
    memories = [Box(480, 60 + 85 * n, f"memory {n + 1}", f"level {n + 1}", "memory", width=120) for n in range(3)]
    decoder = Box(640, 145, "decoder", width=90, height=220)
    prediction = Box(790, 145, "prediction", "frame, difference or flow", "data", width=170)
    parts = [box.svg() for box in (sentences, query, *encoders, *memories, decoder, prediction)]
    parts += [arrow(sentences.right(), encoders[0].left()), arrow(query.right(), encoders[1].left())]
    for n, memory in enumerate(memories):
        parts.append(arrow(encoders[0].right(8 * n - 8), memory.left(-9)))
        parts.append(arrow(encoders[1].right(8 * n - 8), memory.left(9)))
        parts.append(arrow(memory.right(), decoder.left(memory.y - decoder.y)))
    parts.append(arrow(decoder.right(), prediction.left()))
    parts.append(note(438, 285, "noskip: false adds the query's feature to a level's read"))
    return drawing(890, 300, "FramePredictor: an encoder, a memory at each level, a decoder", *parts)


DRAWINGS = {"edvr_memory": edvr_memory, "recurrent": recurrent, "frame_predictor": frame_predictor}


def main(folder: Path = PICTURES) -> None:
    """Writes the drawings."""
    for name, draw in DRAWINGS.items():
        (folder / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
