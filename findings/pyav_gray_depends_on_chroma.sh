#!/usr/bin/env bash
# One would guess: to_ndarray(format="gray") of a YCbCr frame is its luma plane, stretched to the full range.
# What happens: so it is up to PyAV 16.1. From 17.0 on, a frame tagged BT.709 goes through RGB and returns with the
#     weights of BT.601: luma 126 gives 128 without colour and 130 in an orange. Untagged frames and BT.601 ones keep
#     128. A PSNR of luma computed so depends on chroma; the frame's first plane does not.
# Versions: av 16.1.0, 17.0.0, 18.1.0. Source: PyAV documentation, VideoFrame.to_ndarray and VideoReformatter;
#     libswscale, sws_setColorspaceDetails. Date: 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/see.py" <<'PYTHON'
import sys

import av
import numpy as np

BT709, BT470BG, UNSPECIFIED = 1, 5, 2


def gray(chroma, matrix):
    frame = av.VideoFrame(64, 64, "yuv420p")
    for plane, value in zip(frame.planes, (126, *chroma)):
        plane.update(np.full((plane.height, plane.line_size), value, np.uint8).tobytes())
    frame.colorspace, frame.color_range = matrix, 1  # limited range
    pixels = frame.to_ndarray(format="gray")
    assert (pixels == pixels[0, 0]).all()
    return int(pixels[0, 0])


neutral, orange = (128, 128), (90, 160)
seen = [gray(neutral, BT709), gray(orange, BT709), gray(orange, BT470BG), gray(orange, UNSPECIFIED)]
print(f"av {av.__version__}, numpy {np.__version__}: luma 126 as gray:")
print(f"    BT.709 neutral {seen[0]}, orange {seen[1]}; BT.601 orange {seen[2]}; untagged orange {seen[3]}")
expected = [128, int(sys.argv[1]), 128, 128]
raise SystemExit(0 if seen == expected else f"the behaviour has changed: expected {expected}")
PYTHON
for pair in 16.1.0:128 17.0.0:130 18.1.0:130; do
    python3 -m venv "$work/${pair%:*}"
    "$work/${pair%:*}/bin/pip" install --quiet "av==${pair%:*}" numpy==2.3.5
    "$work/${pair%:*}/bin/python" "$work/see.py" "${pair#*:}"
done
