"""Upscales a film that comes or goes through a pipe: frame by frame, without a first pass and without resuming."""

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, BinaryIO

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from tqdm import tqdm

from vsr.contracts import Clip, Spec
from vsr.data.sets.test_clips import generate_frame_indices
from vsr.data.video.colors import from_rgb
from vsr.data.video.cuts import AROUND, scene_cuts
from vsr.data.video.encoding import Encoding, encoder
from vsr.data.video.reader import decoded, deinterlaced, picture_stream, pixels_of
from vsr.engine.precision import full_float32
from vsr.evaluation.restore import Step
from vsr.utils.errors import UserError
from vsr.utils.log import counted, logger
from vsr.video.memory import fitted
from vsr.video.network import Loaded
from vsr.video.pictures import halves, resized
from vsr.video.run import restored_frames
from vsr.video.scan import SMALL, film_of, no_cuts
from vsr.video.sources import Source
from vsr.video.target import Settings, encoding_of, lost_colors

AHEAD = 8  # decoded frames that wait
Y4M = {"yuv420p": "420mpeg2", "yuv422p": "422", "yuv444p": "444"}
Y4M |= {f"yuv{kind}p10le": f"{kind}p10 XYSCSS={kind}P10" for kind in ("420", "422", "444")}


def upscale_pipe(source: Source, out: Path, loaded: Loaded, settings: Settings, stdout: BinaryIO | None) -> None:
    """Upscales standard input or a film to a file or, as y4m, to ``stdout``.

    Raises:
        UserError: the input cannot be read, or the output cannot be written.
    """
    if stdout is None and out.exists() and not settings.overwrite:
        raise UserError(f"'{out}' exists: --overwrite replaces it, -o names another output")
    name = "standard input" if source.is_pipe else str(source.path)
    try:
        container = av.open(sys.stdin.buffer if source.is_pipe else str(source.path.absolute()), "r")
    except FFmpegError as error:
        raise UserError(f"{name} cannot be opened as a video: {error.strerror}") from None
    with container, ExitStack() as stack:
        failed: list[FFmpegError] = []
        frames = deinterlaced(decoded(container, 0, failed), name)
        first = next(frames, None)
        if first is None:
            raise UserError(f"{name} holds no frame that can be decoded")
        stream = picture_stream(container)
        film = film_of(stream, first, name, [Fraction(0)], 0)
        size, encoding = encoding_of(film, Path(name), loaded, settings, keeps_tags=stdout is None)
        encoding = encoding._replace(rate=Fraction(stream.average_rate or film.rate))  # Matroska's times are rounded
        settings, memory = fitted(loaded, film, sys.maxsize, size, settings)
        scale = loaded.spec.scale
        writing = _file(out, encoding) if stdout is None else _y4m(stdout, encoding)
        write = stack.enter_context(writing)
        wanted = range(settings.start, settings.start + (settings.frames or sys.maxsize))
        late: list[int] = []
        steps = _steps(loaded.spec, _watched(first, frames, encoding.rate, late), Path(name), wanted, settings)
        sizes = f"{film.width}x{film.height} → {size.width}x{size.height}"
        text = "%s: %s, %s, by %s ×%d, frame by frame → '%s'; sound and other streams are not copied"
        logger.info(text, name, sizes, memory, type(loaded.network).__name__, scale, out)
        restored = restored_frames(steps, loaded, settings)
        count = 0
        with full_float32(), closing(steps), closing(restored):
            for frame in tqdm(restored, unit="frame"):
                count += 1
                pixels = resized(frame.sr, size)
                write(halves(frame.lq, pixels, scale, size) if settings.side_by_side else pixels)
    lost = [*film.losses, *lost_colors(film, None if stdout is not None else settings.codec)]
    lost += [f"{counted(len(failed), 'packet')} of the input that cannot be decoded"] if failed else []
    lost += [f"the frames' times, which differ from a constant rate from frame {late[0]} on"] if late else []
    if lost:
        logger.warning("not kept: %s", "; ".join(lost))
    logger.info("'%s' is complete: %s", out, counted(count, "frame"))


@contextmanager
def _file(out: Path, encoding: Encoding) -> Iterator[Callable[[np.ndarray], None]]:
    """Writes a Matroska file that appears when it is complete."""
    if out.suffix.lower() != ".mkv":
        raise UserError(f"-o {out}: from a pipe, a Matroska file is written; name it .mkv, or - for a pipe")
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.tmp")
    try:
        with encoder(str(unfinished), encoding) as writer:
            yield writer.write
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _y4m(stream: BinaryIO, encoding: Encoding) -> Iterator[Callable[[np.ndarray], None]]:
    """Writes frames as YUV4MPEG2."""
    if encoding.pixel_format not in Y4M:
        raise UserError(f"--pix-fmt: y4m does not hold {encoding.pixel_format}; it holds {', '.join(Y4M)}")
    rate, aspect, reformatter = encoding.rate, encoding.aspect, VideoReformatter()
    head = f"YUV4MPEG2 W{encoding.width} H{encoding.height} F{rate.numerator}:{rate.denominator} Ip"
    levels = "FULL" if encoding.colors.is_full else "LIMITED"
    head += f" A{aspect.numerator}:{aspect.denominator} C{Y4M[encoding.pixel_format]} XCOLORRANGE={levels}\n"
    stream.write(head.encode())

    def write(pixels: np.ndarray) -> None:
        frame = from_rgb(pixels, encoding.pixel_format, encoding.colors, reformatter)
        stream.write(b"FRAME\n")
        for plane in frame.planes:
            rows = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
            stream.write(rows[:, : plane.width * (2 if frame.format.components[0].bits > 8 else 1)].tobytes())

    try:
        yield write
        stream.flush()
    except BrokenPipeError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())  # what is left in the buffer
        raise UserError("the program that reads the pipe has ended before the film") from None


def _watched(
    first: av.VideoFrame, frames: Iterable[av.VideoFrame], rate: Fraction, late: list[int]
) -> Iterator[av.VideoFrame]:
    """Yields all frames; ``late`` gets the first that is half a frame or more away from its time at a constant rate."""
    for index, frame in enumerate(chain([first], frames)):
        if not late and frame.time is not None and abs((frame.time - (first.time or 0)) * rate - index) >= 0.5:
            late.append(index)
        yield frame


class _Names(Sequence[str]):
    """The names of frames whose number is not known yet."""

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: Any) -> Any:
        return f"{index:08d}"


def _steps(
    spec: Spec, frames: Iterable[av.VideoFrame], name: Path, wanted: range, settings: Settings
) -> Generator[Step]:
    """Yields the steps of a film while it is decoded, in a thread; windows and segments stay inside a shot.

    A cut is known AROUND frames later, and each frame is read once: it is held until then.
    """
    find_cuts = scene_cuts if settings.scene_cut == "auto" else no_cuts
    events: Queue[Any] = Queue(AHEAD)
    held: dict[int, np.ndarray] = {}
    is_window, stopped = spec.reads == "window", Event()
    thread = Thread(target=_decode, args=(frames, name, find_cuts, events, stopped), daemon=True)
    thread.start()
    reach, length = ((spec.num_frames or 1) // 2, 1) if is_window else (settings.overlap, settings.segment)
    try:
        yield from _stream(spec, name, wanted, events, held, reach, length)
    finally:
        stopped.set()  # the thread may not outlive the container that it decodes
        while thread.is_alive():
            with suppress(Empty):
                events.get(timeout=0.05)


def _stream(
    spec: Spec, name: Path, wanted: range, events: "Queue[Any]", held: dict[int, np.ndarray], reach: int, length: int
) -> Generator[Step]:
    """Yields steps of ``length`` frames that read ``reach`` more on both sides, as far as the shot goes."""
    count, start, target, ended = 0, 0, 0, False
    cuts: list[int] = []
    clip = _clip(name, held, start)
    while not ended or target < count:
        stop = cuts[0] if cuts else count if ended else None  # of the shot, where it is known
        end = min(target + length, stop) if stop is not None else target + length
        if stop is None and count <= end + reach + AROUND:
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            if event is None:
                ended = True
            elif isinstance(event, int):
                cuts.append(event)
            else:
                held[count], count = event, count + 1
            continue
        if stop is not None and target >= stop:
            cuts, start = cuts[1:], stop
            clip = _clip(name, held, start)
            continue
        gives = range(max(target, wanted.start) - start, min(end, wanted.stop) - start)
        known = sys.maxsize // 2 if stop is None else stop - start
        if spec.reads == "window":
            t = spec.num_frames or 1
            reads = generate_frame_indices(target - start, known, t, "replicate" if known < t else clip.padding)
        else:
            reads = range(max(target - start - reach, 0), min(end - start + reach, known))
        if len(gives):
            yield Step(clip, reads, gives)
        target = end
        if target >= wanted.stop:
            return


def _clip(name: Path, held: dict[int, np.ndarray], start: int) -> Clip:
    return Clip(name.name, _Names(), lambda index: held.pop(start + index), None, range(0), in_order=True)  # type: ignore[arg-type]


def _decode(
    frames: Iterable[av.VideoFrame],
    name: Path,
    find_cuts: Callable[..., Iterable[int]],
    events: "Queue[Any]",
    stopped: Event,
) -> None:
    """Puts frames (h, w, 3), cuts and None, the end, into a queue; an error in their place."""
    reformatter, shrinker = VideoReformatter(), VideoReformatter()

    def small() -> Iterator[np.ndarray]:
        for frame in frames:
            if stopped.is_set():
                return
            events.put(pixels_of(frame, name, reformatter))
            yield shrinker.reformat(frame, *SMALL, format="gray").to_ndarray()

    try:
        for cut in find_cuts(small()):
            events.put(cut)
        events.put(None)
    except (ValueError, OSError) as error:
        events.put(UserError(str(error)))
