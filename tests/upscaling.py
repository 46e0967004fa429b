"""Films with sound and subtitles, and the command ``vsr upscale`` with a network of the tests."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import yaml

from vsr import upscale

RATE = 48000  # of the sound


def network(folder: Path, type: str = "RepeatedPixels", name: str = "network", **settings: Any) -> list[str]:
    """Writes an options file and weights; returns the arguments that name them."""
    from tiny_networks import RepeatedPixels, WindowMean

    built = {"RepeatedPixels": RepeatedPixels, "WindowMean": WindowMean}[type](**settings)
    torch.save(built.state_dict(), folder / f"{name}.pth")
    options = {"name": name, "scale": built.spec.scale, "imports": ["tiny_networks"], "num_gpu": 0}
    options["network_g"] = {"type": type, **settings}
    (folder / f"{name}.yml").write_text(yaml.safe_dump(options))
    return ["-opt", str(folder / f"{name}.yml"), "--weights", str(folder / f"{name}.pth")]


def run(*arguments: Any) -> int:
    """Runs ``vsr upscale`` on the CPU in this process."""
    return upscale.main([*map(str, arguments), "--device", "cpu"])


def film(
    file: Path,
    frames: np.ndarray,
    codec: str = "ffv1",
    pixel_format: str = "yuv444p",
    times: Sequence[int] | None = None,
    sound: str | None = None,
    aspect: Fraction | None = None,
    rotation: int | None = None,
    options: dict[str, str] | None = None,
    **tags: Any,
) -> Path:
    """Writes a film of RGB frames at 25 frames per second, or at ``times`` in milliseconds, with a tone as long."""
    base = Fraction(1, 25 if times is None else 1000)
    shown = list(range(len(frames))) if times is None else list(times)
    with av.open(str(file), "w") as target:
        stream = target.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixel_format
        stream.codec_context.time_base = base
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            stream.set_display_rotation(rotation)
        tone = target.add_stream(sound, rate=RATE) if sound else None
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
                format=pixel_format, dst_colorspace=tags.get("colorspace"), dst_color_range=tags.get("color_range")
            )
            picture.pts, picture.time_base = shown[number], base
            target.mux(stream.encode(picture))
        target.mux(stream.encode(None))
        if tone is not None:
            last = (2 * shown[-1] - shown[-2]) * base  # the end of the last frame
            wave = np.sin(np.arange(round(last * RATE)) * 440 * 2 * np.pi / RATE).astype(np.float32)
            for start in range(0, len(wave), 1024):
                part = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
                part.sample_rate, part.pts = RATE, start
                target.mux(tone.encode(part))
            target.mux(tone.encode(None))
    return file


def pictures(file: Path) -> list[np.ndarray]:
    """Returns the frames of a video, (h, w, 3) uint8 RGB."""
    from vsr.data.video.reader import decode

    return [frame for frame, _ in decode(file)]


def times(file: Path) -> list[float]:
    """Returns the times of a video's frames, in seconds."""
    with av.open(str(file)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


def packets(file: Path, kind: str) -> list[tuple[float, bytes]]:
    """Returns time and content of the packets of the first stream of a kind."""
    with av.open(str(file)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [
            (float(packet.pts * packet.time_base), bytes(packet)) for packet in container.demux(stream) if packet.size
        ]
