#!/usr/bin/env bash
# One would guess: demux() yields packets without dts only at the end, to flush the decoder, and a copy of a stream skips
#     them with `if packet.dts is None: continue`, as the cookbook of the stable documentation does.
# What happens: Matroska stores no dts. The first packets of an H.264 stream with B-frames, the key frame among them, have
#     dts None. The skip drops them, and no frame of the copy can be decoded. Skipping the packets of size 0 keeps every frame.
# Version: PyAV 18.1.0; pull request 2290 of PyAV changes its documentation. Source: PyAV documentation,
#     cookbook, "Basics", section "Remuxing". Date: 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-cache-dir av==18.1.0 numpy==2.3.5
cat > "$work/see.py" <<'PYTHON'
import sys

import av
import numpy as np

film, copy = f"{sys.argv[1]}/film.mkv", f"{sys.argv[1]}/copy.mkv"
with av.open(film, "w") as target:
    stream = target.add_stream("libx264", rate=5)  # its default has B-frames
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    for number in range(5):
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * number, np.uint8), "rgb24")
        frame.pts = number
        target.mux(stream.encode(frame))
    target.mux(stream.encode())
with av.open(film) as source:
    packets = [(packet.is_keyframe, packet.dts, packet.size > 0) for packet in source.demux(video=0)]
print("PyAV", av.__version__)
print("packets, (key frame, dts, has data):", packets)


def frames_of_copy(keeps):
    with av.open(film) as source, av.open(copy, "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if keeps(packet):
                packet.stream = copied
                target.mux(packet)
    with av.open(copy) as result:
        return sum(1 for _ in result.decode(video=0))


seen = frames_of_copy(lambda packet: packet.dts is not None), frames_of_copy(lambda packet: packet.size)
print(f"frames of 5: {seen[0]} with `dts is not None`, {seen[1]} with `size`")
raise SystemExit(0 if packets[0] == (True, None, True) and seen == (0, 5) else "the behaviour has changed")
PYTHON
"$work/venv/bin/python" "$work/see.py" "$work"
