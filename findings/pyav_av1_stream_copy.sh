#!/usr/bin/env bash
# One would guess: OutputContainer.add_stream_from_template needs no codec, since copied packets are neither decoded nor
#     encoded; it works for an H.264 stream.
# What happens: for an AV1 stream it raises UnknownCodecError("libdav1d"): it looks for an encoder that is called like the
#     template's decoder. With opaque=True the same stream is copied. Nothing in the message names the argument.
# Version: PyAV 18.1.0. Source: a film whose pictures are AV1. Date: 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-cache-dir av==18.1.0 numpy==2.3.5
cat > "$work/see.py" <<'PYTHON'
import sys

import av
import numpy as np


def make(path, encoder):
    with av.open(path, "w") as target:
        stream = target.add_stream(encoder, rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * number, np.uint8), "rgb24")
            frame.pts = number
            target.mux(stream.encode(frame))
        target.mux(stream.encode())


def copy(path, to, **arguments):
    with av.open(path) as source, av.open(to, "w") as target:
        stream = source.streams.video[0]
        try:
            copied = target.add_stream_from_template(stream, **arguments)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        for packet in source.demux(stream):
            if packet.size:  # demux ends with an empty packet
                packet.stream = copied
                target.mux(packet)
    with av.open(to) as result:
        return sum(1 for _ in result.decode(video=0))


print("PyAV", av.__version__)
seen = []
for encoder in ("libx264", "libsvtav1"):
    path = f"{sys.argv[1]}/{encoder}.mkv"
    make(path, encoder)
    for arguments in ({}, {"opaque": True}):
        seen.append(copy(path, f"{sys.argv[1]}/copy.mkv", **arguments))
        print(f"{encoder}, {arguments or 'no argument'}: {seen[-1]}")
raise SystemExit(0 if seen == [5, 5, "UnknownCodecError: libdav1d", 5] else "the behaviour has changed")
PYTHON
"$work/venv/bin/python" "$work/see.py" "$work" 2> "$work/log" || { cat "$work/log"; exit 1; }
