#!/usr/bin/env bash
# One would guess: 16-bit RGB is the faithful form of a 10-bit 4:2:0 frame, and rgb48le and gbrp16le hold the same
#     values.
# What happens: PyAV 16.0.1, 16.1.0 and 17.0.0 set green or red to 0 in rgb48le and rgba64le wherever Cb or Cr is
#     below its middle (an orange becomes crimson), without an error. gbrp16le and rgb24 are right; so is rgb48le in
#     15.1.0, 17.1.0 and 18.1.0, and for neutral greys in all of them.
# Versions: av 15.1.0, 16.1.0, 17.0.0, 17.1.0, 18.1.0 on x86-64. Source: PyAV documentation, VideoFrame.to_ndarray;
#     libswscale/output.c. Date: 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/see.py" <<'PYTHON'
import sys

import av
import numpy as np


def pixel(values, name):
    """The middle pixel of a plain 10-bit frame, as 8-bit levels."""
    frame = av.VideoFrame(64, 64, "yuv420p10le")
    for plane, value in zip(frame.planes, values):
        plane.update(np.full((plane.height, plane.line_size // 2), value, np.uint16).tobytes())
    pixels = frame.to_ndarray(format=name)[32, 32].astype(float)
    return pixels[:3] if name == "rgb24" else pixels[:3] / 257


def close(values, name):
    return bool(np.abs(pixel(values, name) - pixel(values, "rgb24")).max() < 4)


grey, orange = (502, 512, 512), (502, 400, 600)
print(f"av {av.__version__}, numpy {np.__version__}: an orange in levels of 8 bits")
for name in ("rgb24", "gbrp16le", "rgb48le", "rgba64le"):
    print(f"    {name:9}", pixel(orange, name).round(1).tolist())
packed = [close(orange, "rgb48le"), close(orange, "rgba64le")]
others = [close(orange, "gbrp16le"), close(grey, "rgb48le"), close(grey, "rgba64le")]
wrong = sys.argv[1] == "wrong"
right = packed == [not wrong] * 2 and all(others) and (pixel(orange, "rgb48le")[1] == 0) == wrong
raise SystemExit(0 if right else f"the behaviour has changed: expected {sys.argv[1]}")
PYTHON
for pair in 15.1.0:right 16.1.0:wrong 17.0.0:wrong 17.1.0:right 18.1.0:right; do
    python3 -m venv "$work/${pair%:*}"
    "$work/${pair%:*}/bin/pip" install --quiet "av==${pair%:*}" numpy==2.3.5
    "$work/${pair%:*}/bin/python" "$work/see.py" "${pair#*:}"
done
