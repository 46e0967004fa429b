"""What an output looks like: its name, container, size, pixel format, tags and copied streams."""

from fractions import Fraction
from pathlib import Path

import av

from vsr.data.sources.colors import BT709, Colors
from vsr.registry import did_you_mean
from vsr.utils.errors import UserError
from vsr.utils.log import logger
from vsr.video import muxing
from vsr.video.encoding import Encoding, output_colors, trial
from vsr.video.film import Film, frame_names, hdr_of
from vsr.video.network import Loaded
from vsr.video.pictures import output_size
from vsr.video.settings import Settings
from vsr.video.sources import Source
from vsr.video.writing import Target

NO_STREAMS = muxing.Plan((), ())


def target_of(
    source: Source, film: Film, out: Path, is_png: bool, loaded: Loaded, settings: Settings
) -> tuple[Target, muxing.Plan]:
    """Returns what is written, and which streams are copied; one black frame is encoded to see that it can be."""
    hdr = hdr_of(film)
    if hdr and settings.hdr == "refuse":
        raise UserError(f"'{source.path}' is HDR ({hdr}), and --hdr is refuse")
    if hdr:
        logger.warning("'%s' is HDR: the network sees %s values as if they were SDR; tags are kept", source.path, hdr)
    scale, name = loaded.spec.scale, pixel_format(settings.pix_fmt or ("yuv420p10le" if film.depth > 8 else "yuv420p"))
    size = output_size(film.height, film.width, scale, settings.scale, settings.height, None if is_png else name)
    names = frame_names(source)
    if is_png:
        return Target(out, "", size, None, names), NO_STREAMS
    colors, suffix = output_colors(film.colors, name), out.suffix.lower()
    aspect = Fraction(*film.aspect)
    encoding = Encoding(settings.codec, settings.crf, name, size.height, size.width, film.rate, colors, aspect)
    if not muxing.holds(trial(encoding), suffix):
        raise UserError(f"-o {out}: {suffix} does not hold {settings.codec}; choose .mkv")
    plan = NO_STREAMS if source.frames else muxing.plan_streams(source.path, suffix, settings.audio)
    return Target(out, suffix, size, encoding, names), plan


def default_output(source: Source, is_png: bool, loaded: Loaded, settings: Settings) -> Path:
    """Returns the output beside the input; Matroska where the input's container cannot hold all streams."""
    times = f"{settings.height}p" if settings.height else f"x{settings.scale or loaded.spec.scale:g}"
    if source.frames or is_png:
        folder = source.path if source.frames else source.path.with_suffix("")
        return folder.with_name(f"{folder.resolve().name}_{times}")
    suffix = source.path.suffix.lower()
    out = source.path.with_name(f"{source.path.stem}_{times}{suffix}")
    name = pixel_format(settings.pix_fmt or "yuv420p")
    encoding = Encoding(settings.codec, settings.crf, name, 64, 64, settings.fps, Colors(BT709), Fraction(1))
    fits = suffix in muxing.CONTAINERS and muxing.holds(trial(encoding), suffix)
    lost = [f"{suffix or 'the input'} does not hold {settings.codec}"] if not fits else []
    if fits and suffix != ".mkv":
        lost = list(muxing.plan_streams(source.path, suffix, settings.audio).lost)
        lost = [text for text in lost if text not in muxing.plan_streams(source.path, ".mkv", settings.audio).lost]
    if not lost:
        return out
    out = out.with_suffix(".mkv")
    logger.info("the output is Matroska, '%s': %s", out.name, "; ".join(lost))
    return out


def pixel_format(name: str) -> str:
    """Returns FFmpeg's name of a pixel format; ``yuv420p10`` is ``yuv420p10le``."""
    for known in (name, f"{name}le"):
        try:
            return av.VideoFormat(known).name
        except ValueError:
            continue
    near = did_you_mean(name, ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"))
    raise UserError(f"--pix-fmt: FFmpeg has no pixel format '{name}'{near}")
