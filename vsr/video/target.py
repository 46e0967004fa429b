"""The settings of the command line, and the output that follows: name, container, size, pixel format, tags, streams."""

from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import torch

from vsr.data.video.colors import BT709, Colors
from vsr.data.video.encoding import Encoding, output_colors, trial
from vsr.data.video.side_data import PARAMETERS, Light
from vsr.engine.precision import Precision
from vsr.evaluation.restoring.calls import OVERLAP, TILE_OVERLAP
from vsr.registry import did_you_mean
from vsr.utils.errors import UserError
from vsr.utils.log import logger
from vsr.video import muxing
from vsr.video.film import Film, frame_names, hdr_of
from vsr.video.network import Loaded
from vsr.video.pictures import Size, output_size
from vsr.video.sources import Source
from vsr.video.work import Target

SEGMENT = 30  # frames that a recurrent network restores at a time
NO_STREAMS = muxing.Plan((), ())


class Settings(NamedTuple):
    """The command line of ``vsr upscale``; see its help. ``keep_features`` follows from the free memory."""

    device: torch.device
    precision: Precision = "auto"
    tile: int | None = None
    tile_overlap: int = TILE_OVERLAP
    segment: int = SEGMENT
    overlap: int = OVERLAP
    scene_cut: str = "auto"
    height: int | None = None
    scale: float | None = None
    codec: str = "libx264"
    crf: float = 18
    pix_fmt: str | None = None
    hdr: str = "keep"
    start: int = 0
    frames: int | None = None
    overwrite: bool = False
    audio: bool = True
    png: bool = False
    preview: int | None = None
    side_by_side: bool = False
    dry_run: bool = False
    fps: Fraction = Fraction(25)
    keep_features: bool = True


def target_of(
    source: Source, film: Film, out: Path, is_png: bool, loaded: Loaded, settings: Settings
) -> tuple[Target, muxing.Plan]:
    """Returns what is written, and which streams are copied; one black frame is encoded to see that it can be."""
    if is_png:
        check_hdr(film, source.path, settings, keeps_tags=False)
        size = output_size(film.height, film.width, loaded.spec.scale, settings.scale, settings.height, None)
        return Target(out, "", size, None, frame_names(source)), NO_STREAMS._replace(lost=lost_colors(film, None))
    size, encoding = encoding_of(film, source.path, loaded, settings)
    suffix = out.suffix.lower()
    if not muxing.holds(trial(encoding), suffix):
        raise UserError(f"-o {out}: {suffix} does not hold {settings.codec}; choose .mkv")
    plan = NO_STREAMS if source.frames else muxing.plan_streams(source.path, suffix, settings.audio)
    if not source.frames and (left_out := _held_by_matroska(source.path, suffix, settings)):
        logger.warning("%s does not hold %s; .mkv does", suffix, ", ".join(left_out))
    plan = plan._replace(lost=(*plan.lost, *lost_colors(film, settings.codec)))
    return Target(out, suffix, size, encoding, frame_names(source)), plan


def lost_colors(film: Film, codec: str | None) -> tuple[str, ...]:
    """Returns what an encoder does not write of a film's colours; ``codec`` None is an output without tags."""
    tags = (f"colour tags ({hdr_of(film)})",) if codec is None and hdr_of(film) else ()
    if film.light == Light() or codec in PARAMETERS:
        return tags
    return (*tags, "mastering and light levels of HDR" + (f" ({codec} does not write them)" if codec else ""))


def encoding_of(
    film: Film, name: Path, loaded: Loaded, settings: Settings, keeps_tags: bool = True
) -> tuple[Size, Encoding]:
    """Returns the size of the output and how it is encoded; raises UserError if HDR is refused."""
    check_hdr(film, name, settings, keeps_tags)
    kind = pixel_format(settings.pix_fmt or ("yuv420p10le" if film.depth > 8 else "yuv420p"))
    size = output_size(film.height, film.width, loaded.spec.scale, settings.scale, settings.height, kind)
    exact = output_size(film.height, film.width, loaded.spec.scale, settings.scale, settings.height, None)
    if exact != size:
        change = f"{exact.width} x {exact.height} become {size.width} x {size.height}, by repeating the last pixels"
        logger.warning("%s needs even sizes: %s; --pix-fmt yuv444p keeps odd ones", kind, change)
    colors, aspect = output_colors(film.colors, kind, size.height), Fraction(*film.aspect)
    encoding = Encoding(
        settings.codec, settings.crf, kind, size.height, size.width, film.rate, colors, aspect, film.light
    )
    return size, encoding


def check_hdr(film: Film, name: Path, settings: Settings, keeps_tags: bool) -> None:
    """Warns of an HDR film; raises UserError if HDR is refused."""
    if (hdr := hdr_of(film)) and settings.hdr == "refuse":
        raise UserError(f"'{name}' is HDR ({hdr}), and --hdr is refuse")
    if hdr:
        tags = "tags are kept" if keeps_tags else "the output has no tags"
        logger.warning("'%s' is HDR: the network sees %s values as if they were SDR; %s", name, hdr, tags)


def output_of(source: Source, out: Path | None, is_png: bool, loaded: Loaded, settings: Settings) -> Path:
    """Returns the output of a film: ``out``, or where that is a folder or None, IN_x4.mp4 there or beside the input.

    It is Matroska where the input's container cannot hold all of its streams.
    """
    is_folder = out is not None and not is_png and (out.is_dir() or not out.suffix)
    if out is not None and not is_folder:
        if not is_png and out.suffix.lower() not in muxing.CONTAINERS:
            known = ", ".join(muxing.CONTAINERS)
            raise UserError(f"-o {out}: the container '{out.suffix}' is not written; expected one of {known}")
        return out
    times = f"{settings.height}p" if settings.height else f"x{settings.scale or loaded.spec.scale:g}"
    given = source.path.resolve()
    name, suffix = (given.name, ".mp4") if source.frames else (given.stem, given.suffix.lower())
    folder = given.parent if out is None else out
    if is_png:
        return folder / f"{name}_{times}"
    lost = [] if source.frames else _misfits(given, suffix, settings)
    if lost:
        logger.info("the output is Matroska: %s", "; ".join(lost))
    return folder / f"{name}_{times}{'.mkv' if lost else suffix}"


def _misfits(video: Path, suffix: str, settings: Settings) -> list[str]:
    """Returns what a container cannot hold although Matroska can."""
    name, colors = pixel_format(settings.pix_fmt or "yuv420p"), Colors(BT709, BT709, BT709)
    black = trial(Encoding(settings.codec, settings.crf, name, 64, 64, settings.fps, colors, Fraction(1)))
    if not muxing.holds(black, suffix):
        return [f"{suffix or 'the container'} does not hold {settings.codec}, or is not written"]
    return [f"{suffix} does not hold {stream}" for stream in _held_by_matroska(video, suffix, settings)]


def _held_by_matroska(video: Path, suffix: str, settings: Settings) -> list[str]:
    """Returns the streams that a container cannot hold although Matroska can."""
    own, matroska = (muxing.plan_streams(video, kind, settings.audio).lost for kind in (suffix, ".mkv"))
    return [stream for stream in own if stream not in matroska]


def pixel_format(name: str) -> str:
    """Returns FFmpeg's name of a pixel format; ``yuv420p10`` is ``yuv420p10le``."""
    for known in (name, f"{name}le"):
        try:
            return av.VideoFormat(known).name
        except ValueError:
            continue
    near = did_you_mean(name, ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"))
    raise UserError(f"--pix-fmt: FFmpeg has no pixel format '{name}'{near}")
