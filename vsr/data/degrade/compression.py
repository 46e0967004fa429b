"""Compression of frames as JPEG and as video: steps of a chain, see :mod:`vsr.data.degrade.chain`."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter

from vsr.data.degrade.draws import BitRate, Quality, Weight, Weights
from vsr.data.video.colors import Colors, default_matrix, from_rgb, to_rgb
from vsr.data.video.encoding import REPEATABLE
from vsr.data.video.side_data import PARAMETERS
from vsr.registry import register

DECODERS = {"libx264": "h264", "mpeg4": "mpeg4"}


@dataclass(frozen=True)
class Codecs(Weights):
    """Encoders of video, with weights.

    Args:
        libx264: H.264; FFmpeg's ``h264`` is the same encoder.
        mpeg4: MPEG-4 part 2; its bit rate adapts slowly, so that the quality of a short clip hardly depends on it.
    """

    libx264: Weight = 0.0
    mpeg4: Weight = 0.0


@register("degradation_step")
def jpeg(
    frames: list[np.ndarray],
    rng: np.random.Generator,
    lq_size: tuple[int, int],
    /,
    quality: Quality = Quality(30, 95, 3),
) -> list[np.ndarray]:
    """Compresses each frame as JPEG, by a quality that walks.

    Args:
        frames: of one clip, (h, w, 3) float32 RGB; clipped to [0, 1] and rounded to 8 bits.
        rng: draws the quality.
        lq_size: not used.
        quality: from 1 to 100.
    """
    qualities = quality.values(rng, len(frames))
    return [as_jpeg(to_levels(frame), round(q)) / np.float32(255) for frame, q in zip(frames, qualities, strict=True)]


@register("degradation_step")
def video_compression(
    frames: list[np.ndarray],
    rng: np.random.Generator,
    lq_size: tuple[int, int],
    /,
    codecs: Codecs = Codecs(libx264=2, mpeg4=1),
    bits_per_frame: BitRate = BitRate(1e4, 1e5),
) -> list[np.ndarray]:
    """Encodes the clip as video and decodes it, in memory.

    Args:
        frames: of one clip, (h, w, 3) float32 RGB; clipped to [0, 1], rounded to 8 bits, and resized to the first one's
            size.
        rng: draws the encoder and the bit rate.
        lq_size: not used.
        codecs: encoders, with weights.
        bits_per_frame: bit rate of a stream of one frame per second.
    """
    codec, bits = codecs.draw(rng), round(bits_per_frame.draw(rng))
    h, w = frames[0].shape[:2]
    same_size = [cv2.resize(frame, (w, h), interpolation=cv2.INTER_LINEAR) for frame in frames]
    decoded = as_video([to_levels(frame) for frame in same_size], codec, bits)
    return [frame / np.float32(255) for frame in decoded]


def as_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Returns pixels (h, w, 3) uint8 RGB after JPEG compression."""
    encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None, "it was encoded here"
    return decoded[..., ::-1]


def as_video(frames: list[np.ndarray], codec: str, bits_per_frame: int) -> list[np.ndarray]:
    """Returns frames (h, w, 3) uint8 RGB, of one size, after encoding as 4:2:0 video and decoding.

    One thread encodes, so that the same frames give the same result. Odd sizes are padded by copying the border.
    """
    h, w = frames[0].shape[:2]
    colors, reformatter = Colors(default_matrix(h + h % 2)), VideoReformatter()
    encoder, decoder = _context(codec, "w"), _context(DECODERS[codec], "r")
    encoder.width, encoder.height, encoder.pix_fmt = w + w % 2, h + h % 2, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.bit_rate = Fraction(1), Fraction(1), bits_per_frame
    if codec in REPEATABLE:
        encoder.options = {PARAMETERS[codec]: ":".join(REPEATABLE[codec])}
    packets = []
    for number, pixels in enumerate(frames):
        even = cv2.copyMakeBorder(pixels, 0, h % 2, 0, w % 2, cv2.BORDER_REPLICATE)
        frame = from_rgb(even, "yuv420p", colors, reformatter)
        frame.pts, frame.time_base = number, encoder.time_base
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoded = [frame for packet in (*packets, None) for frame in decoder.decode(packet)]
    return [to_rgb(frame, reformatter)[:h, :w] for frame in decoded]


def to_levels(frame: np.ndarray) -> np.ndarray:
    """Returns a frame in [0, 1] as uint8, clipped and rounded."""
    return np.rint(np.clip(frame, 0, 1) * 255).astype(np.uint8)


def _context(codec: str, mode: Literal["r", "w"]) -> VideoCodecContext:
    context = av.CodecContext.create(codec, mode)
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    return context
