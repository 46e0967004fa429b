"""Encodes frames: parts of a video in Matroska files of their own, PNG files, or y4m on a pipe."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import torch
from av.codec.codec import UnknownCodecError
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vsr.data.video.colors import BT601, BT601_525, BT709, HD_LINES, UNSPECIFIED, Colors, from_rgb, is_rgb
from vsr.data.video.side_data import PARAMETERS, Light, parameters_of
from vsr.registry import did_you_mean
from vsr.utils.errors import UserError
from vsr.utils.files import write_atomically

# With AVX-512, libx264 encodes the same frames differently from run to run (x264 core 165, mbtree).
REPEATABLE = {"libx264": ["asm=avx2"]} if torch.cpu._is_avx512_supported() else {}
QUIET = {"libx265": ["log-level=error"]}  # writes its settings to standard error otherwise
QUALITY = {"prores_ks": None, "prores": None, "ffv1": None, "mpeg4": "qscale", "mjpeg": "qscale"}  # the others: crf

os.environ.setdefault("SVT_LOG", "1")  # errors only


class Encoding(NamedTuple):
    """How frames are encoded.

    Args:
        codec: FFmpeg's name of the encoder.
        crf: constant rate factor, where the encoder has one.
        pixel_format: FFmpeg's name.
        height: of a frame.
        width: of a frame.
        rate: mean frames per second.
        colors: matrix, primaries, transfer and range that the stream is tagged with.
        aspect: width of a pixel / its height.
        light: HDR metadata that is written; encoders outside of PARAMETERS leave it out.
    """

    codec: str
    crf: float
    pixel_format: str
    height: int
    width: int
    rate: Fraction
    colors: Colors
    aspect: Fraction
    light: Light = Light()


def output_colors(colors: Colors, pixel_format: str, height: int) -> Colors:
    """Returns the tags of the output: those of the input, and where it has none those that belong to its matrix.

    The matrix of RGB input is BT.709 from 720 lines of output on, BT.601 below.
    """
    matrix = colors.matrix or (BT709 if height >= HD_LINES else BT601_525)
    usual = BT709 if matrix == BT709 else BT601 if matrix == BT601 else BT601_525
    primaries, transfer = (usual if code in (0, UNSPECIFIED) else code for code in colors[1:3])
    return Colors(matrix, primaries, transfer, colors.is_full or pixel_format.startswith("yuvj"))


@contextmanager
def encoder(file: Any, encoding: Encoding, container: str = "matroska") -> Iterator["Encoder"]:
    """Opens an encoder that writes a file or a stream.

    Raises:
        UserError: there is no such encoder or pixel format, or it cannot encode these frames.
    """
    with av.open(file, "w", format=container) as target:
        writer = Encoder(target, encoding)
        yield writer
        if writer.count:
            target.mux(writer.stream.encode(None))


class Encoder:
    """Encodes frames in order."""

    def __init__(self, target: OutputContainer, encoding: Encoding) -> None:
        self.target, self.encoding, self.count = target, encoding, 0
        self._reformatter = VideoReformatter()
        self.stream = _add_stream(target, encoding)

    def write(self, pixels: np.ndarray) -> None:
        """Encodes a frame, (h, w, 3) RGB, uint8 or uint16."""
        encoding = self.encoding
        frame = from_rgb(pixels, encoding.pixel_format, encoding.colors, self._reformatter)
        frame.pts, frame.time_base = self.count, 1 / encoding.rate
        self.count += 1
        try:
            self.target.mux(self.stream.encode(frame))
        except FFmpegError as error:
            if self.count > 1:
                raise  # the disk is full
            what = f"{encoding.width} x {encoding.height} {encoding.pixel_format}"
            text = f"{encoding.codec} cannot encode {what}: {error.strerror}; try --pix-fmt or another --codec"
            raise UserError(text) from None

    def give_up(self) -> None:
        """Makes the end of the block write nothing more."""
        self.count = 0


def _add_stream(target: OutputContainer, encoding: Encoding) -> VideoStream:
    name, colors = encoding.codec, encoding.colors
    try:
        codec = av.Codec(name, "w")
    except UnknownCodecError:
        known = sorted(codec for codec in av.codecs_available if codec.startswith("lib") or codec in QUALITY)
        raise UserError(f"--codec: FFmpeg has no encoder '{name}'{did_you_mean(name, known)}") from None
    if codec.type != "video":
        raise UserError(f"--codec: '{name}' encodes {codec.type}, not video")
    formats = [video_format.name for video_format in codec.video_formats or []]
    if formats and encoding.pixel_format not in formats:
        text = f"--pix-fmt: {name} does not encode {encoding.pixel_format}"
        raise UserError(f"{text}{did_you_mean(encoding.pixel_format, formats)}; it knows {', '.join(formats)}")
    options = {}
    if name in PARAMETERS:
        words = [*QUIET.get(name, ()), *REPEATABLE.get(name, ()), *parameters_of(encoding.light, name)]
        options |= {PARAMETERS[name]: ":".join(words)} if words else {}
    if QUALITY.get(name, "crf") == "crf":
        options["crf"] = f"{encoding.crf:g}"
    stream = target.add_stream(name, rate=encoding.rate, options=options)
    assert isinstance(stream, VideoStream)
    stream.height, stream.width, stream.pix_fmt = encoding.height, encoding.width, encoding.pixel_format
    context = stream.codec_context
    context.time_base, context.sample_aspect_ratio = 1 / encoding.rate, encoding.aspect
    if not is_rgb(encoding.pixel_format):
        context.colorspace, context.color_range = colors.matrix, 2 if colors.is_full else 1
    context.color_primaries, context.color_trc = colors.primaries, colors.transfer
    return stream


def trial(encoding: Encoding) -> io.BytesIO:
    """Returns a film of one black frame; raises UserError if it cannot be encoded."""
    file = io.BytesIO()
    with encoder(file, encoding) as writer:
        writer.write(np.zeros((encoding.height, encoding.width, 3), np.uint8))
    file.seek(0)
    return file


def write_png(file: Path, pixels: np.ndarray) -> None:
    """Writes a frame, (h, w, 3) RGB, as a PNG of 8 or 16 bits."""
    encoded = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    write_atomically(file, lambda stream: stream.write(encoded), flush=False)
