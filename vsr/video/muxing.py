"""Puts the parts of a video together: without encoding them again, with the input's times, sound and other streams."""

import heapq
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError

from vsr.data.video.reader import open_video, packets_of, picture_stream
from vsr.utils.errors import UserError
from vsr.video.film import Film

CONTAINERS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts", ".m2ts", ".mts")
COPIED = ("audio", "subtitle", "attachment")
REFUSALS = (ValueError, FFmpegError, IndexError)  # of PyAV, for a stream that a container does not hold


class Plan(NamedTuple):
    """The streams of a film's input that are copied, by index, and those that are not, in words."""

    copied: tuple[int, ...]
    lost: tuple[str, ...]


def plan_streams(video: Path, suffix: str, with_audio: bool) -> Plan:
    """Returns which streams of a video a container can hold; raises UserError if it cannot be opened."""
    copied, lost = [], []
    try:
        opened = open_video(video)
    except ValueError as error:
        raise UserError(str(error)) from None
    with opened as source:
        main = picture_stream(source)
        for stream in source.streams:
            if stream.index == main.index or (stream.type == "audio" and not with_audio):
                continue
            if stream.type in COPIED and _fits(stream, suffix):
                copied.append(stream.index)
            else:
                lost.append(_describe(stream))
    return Plan(tuple(copied), tuple(lost))


def holds(part: io.BytesIO, suffix: str) -> bool:
    """Returns whether a container can hold the encoded pictures of a part."""
    part.seek(0)
    with av.open(part) as source:
        return suffix in CONTAINERS and _fits(source.streams.video[0], suffix)


def assemble(
    parts: Sequence[Path], film: Film, frames: range, out: Path, suffix: str, source: Path | None, plan: Plan
) -> list[str]:
    """Writes the parts as one file; returns what of the input could not be kept.

    Args:
        parts: Matroska files, in order, one packet per frame.
        film: has the frames' times.
        frames: those that the parts hold.
        out: the file.
        suffix: names its container.
        source: the input, for its other streams; None has none.
        plan: its streams.
    """
    start, stop = film.seconds(frames.start), film.seconds(frames.stop)
    is_whole = len(frames) == len(film.times)
    lost = []
    with ExitStack() as stack:
        target = stack.enter_context(av.open(str(out), "w", format=_format(suffix)))
        first = stack.enter_context(av.open(str(parts[0])))
        pictures = target.add_stream_from_template(first.streams.video[0], opaque=True)
        pictures.time_base = Fraction(*film.time_base)
        flows = []
        origin = Fraction(0) if is_whole else start
        if source is not None:
            given = stack.enter_context(open_video(source))
            if is_whole and given.start_time is not None:  # MPEG-TS starts anywhere
                origin = min(Fraction(given.start_time, av.time_base), start)
                origin = max(origin, Fraction(0))
            lost += _describe_container(given, target, origin, start, None if is_whole else stop)
            copies = {index: _copy_stream(given.streams[index], target) for index in plan.copied}
            _copy_disposition(picture_stream(given), pictures)
            wanted = [given.streams[index] for index in plan.copied if given.streams[index].type != "attachment"]
            if wanted:
                until = None if is_whole else stop
                flows.append(_copied_packets(given, wanted, copies, origin, None if is_whole else start, until))
        flows.append(_pictures(parts, film, frames, origin, pictures))
        order = count()
        for _, _, packet in heapq.merge(*[((time, next(order), p) for time, p in flow) for flow in flows]):
            target.mux(packet)
    return lost


def _pictures(
    parts: Sequence[Path], film: Film, frames: range, origin: Fraction, stream: Any
) -> Iterator[tuple[float, av.Packet]]:
    """Yields the packets of the parts, with the film's times."""
    base = Fraction(*film.time_base)
    shift = round(origin / base)
    times = [film.times[index] - shift for index in frames]
    end = (film.times[frames.stop] if frames.stop < len(film.times) else film.times[-1] + film.last) - shift
    delay = max(_delays(parts))
    # decoding times run ahead of the pictures' by the encoder's reordering; as much is added before the first
    ahead = times[-1] - times[-1 - delay] if len(times) > delay else delay
    before = [times[0] - max(round(ahead * (delay - i) / max(delay, 1)), delay - i) for i in range(delay)]
    number = start = 0
    for part in parts:
        with av.open(str(part)) as container:
            ranks = _ranks(part)
            for packet in container.demux(video=0):
                if not packet.size:
                    continue
                index = start + ranks[packet.pts]
                following = times[index + 1] if index + 1 < len(times) else end
                packet.stream, packet.time_base = stream, base
                packet.pts = times[index]
                packet.dts = before[number] if number < delay else times[number - delay]
                packet.duration = following - times[index]
                yield float(packet.dts * base), packet
                number += 1
            start += len(ranks)


def _ranks(part: Path) -> dict[int, int]:
    """Returns the position of each frame of a part by its time there; Matroska rounds times to milliseconds."""
    with av.open(str(part)) as container:
        times = sorted(packet.pts for packet in container.demux(video=0) if packet.size and packet.pts is not None)
    return {time: position for position, time in enumerate(times)}


def _delays(parts: Sequence[Path]) -> Iterator[int]:
    """Yields by how many frames each packet is decoded before the frame at its position is shown."""
    for part in parts:
        ranks = _ranks(part)
        with av.open(str(part)) as container:
            packets = (packet for packet in container.demux(video=0) if packet.size)
            yield max((number - ranks[packet.pts] for number, packet in enumerate(packets)), default=0)


def _copied_packets(
    source: InputContainer,
    streams: list[Any],
    copies: dict[int, Any],
    origin: Fraction,
    start: Fraction | None,
    stop: Fraction | None,
) -> Iterator[tuple[float, av.Packet]]:
    """Yields the packets of the other streams from ``start`` until ``stop``, ``origin`` seconds earlier."""
    latest = 0.0
    for packet in packets_of(source, *streams):
        if not packet.size or packet.time_base is None:
            continue
        seconds = None if packet.pts is None else packet.pts * packet.time_base
        if seconds is not None and ((start is not None and seconds < start) or (stop is not None and seconds >= stop)):
            continue
        shift = round(origin / packet.time_base)
        if packet.pts is not None:
            packet.pts -= shift
        if packet.dts is not None:
            packet.dts -= shift
            latest = max(latest, float(packet.dts * packet.time_base))
        packet.stream = copies[packet.stream.index]
        yield latest, packet


def _copy_stream(stream: Any, target: OutputContainer) -> Any:
    if stream.type == "attachment":
        return target.add_stream_from_template(stream)
    copy = target.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(_texts(stream.metadata))
    _copy_disposition(stream, copy)
    return copy


def _copy_disposition(stream: Any, copy: Any) -> None:
    with suppress(AttributeError, TypeError, ValueError):  # PyAV before 16 cannot set it
        copy.disposition = stream.disposition


def _texts(metadata: dict[str, str]) -> dict[str, str]:
    """Returns metadata without what the muxer writes itself."""
    own = ("encoder", "duration", "number_of_frames", "number_of_bytes", "bps", "creation_time", "handler_name")
    return {key: value for key, value in metadata.items() if key.lower() not in own and key[:1] != "_"}


def _describe_container(
    source: InputContainer, target: OutputContainer, origin: Fraction, start: Fraction, stop: Fraction | None
) -> list[str]:
    """Copies title, chapters and the like; returns what could not be copied."""
    brands = ("major_brand", "minor_version", "compatible_brands")
    target.metadata.update({k: v for k, v in _texts(source.metadata).items() if k not in brands})
    try:
        chapters = source.chapters()
        if chapters:
            target.set_chapters(list(_moved(chapters, origin, start, stop)))
    except AttributeError:
        return ["chapters, if there are any (PyAV before version 16 does not read them)"]
    return []


def _moved(chapters: Iterable[Any], origin: Fraction, start: Fraction, stop: Fraction | None) -> Iterator[Any]:
    for chapter in chapters:
        base = chapter["time_base"] or Fraction(1, 1000)
        begin, end = chapter["start"] * base, chapter["end"] * base
        if stop is not None:
            if end <= start or begin >= stop:
                continue
            begin, end = max(begin, start), min(end, stop)
        yield {**chapter, "start": round((begin - origin) / base), "end": round((end - origin) / base)}


def _fits(stream: Any, suffix: str) -> bool:
    """Returns whether a container takes a stream: its header is written to memory."""
    try:
        with av.open(io.BytesIO(), "w", format=_format(suffix)) as target:
            if stream.type == "attachment":
                target.add_stream_from_template(stream)
            else:
                target.add_stream_from_template(stream, opaque=True)
            target.start_encoding()
    except REFUSALS:
        return False
    return stream.type != "attachment" or suffix in (".mkv", ".webm")


def _format(suffix: str) -> str:
    formats = {".mkv": "matroska", ".mov": "mov", ".webm": "webm", ".mp4": "mp4", ".m4v": "mp4"}
    return formats.get(suffix, "mpegts")


def _describe(stream: Any) -> str:
    codec = stream.codec_context.name if stream.codec_context else stream.metadata.get("filename", "unknown")
    return f"{stream.type} stream {stream.index} ({codec})"
