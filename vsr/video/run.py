"""Upscales one film: a first pass, parts, one output."""

import shutil
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import av
import torch
from tqdm import tqdm

import vsr
from vsr.data.video.cuts import scene_cuts
from vsr.engine.precision import full_float32
from vsr.evaluation.draw.images import write_image
from vsr.evaluation.restore import Frame, Step, restore, steps_of
from vsr.utils.allocator import peak_memory
from vsr.utils.errors import UserError
from vsr.utils.files import size_text, sync
from vsr.utils.locks import sole_use
from vsr.utils.log import counted, logger
from vsr.utils.signals import StopSignals
from vsr.video import muxing
from vsr.video.film import Film, Reader, frame_names, shots
from vsr.video.memory import FITTED, WAITING, fitted
from vsr.video.network import Loaded
from vsr.video.pictures import halves, preview, resized
from vsr.video.scan import no_cuts, scan
from vsr.video.sources import Source
from vsr.video.target import Settings, output_of, target_of
from vsr.video.work import PartWriter, Queue, Target, Work, digest_of, folder_of

CPU = torch.device("cpu")
PART = 100  # frames of a part at least: what a crash may lose


def upscale(source: Source, out: Path | None, loaded: Loaded, settings: Settings) -> None:
    """Upscales a film; ``out`` None is a name beside the input.

    Raises:
        UserError: the input cannot be read, the output exists or cannot be written, or a setting does not fit.
        SystemExit: a signal stopped it; the finished parts are kept.
    """
    is_png = settings.png or (bool(source.frames) and (out is None or not out.suffix))
    named = output_of(source, out, is_png, loaded, settings)
    if named.resolve() == source.path.resolve():
        raise UserError(f"-o {out}: the output would replace the input; name another")
    if settings.preview is not None:
        _preview(source, named, loaded, settings)
    elif settings.dry_run:
        film = _scan(source, settings)
        frames = _range(film, settings)
        target, _ = target_of(source, film, named, is_png, loaded, settings)
        settings, memory = fitted(loaded, film, film.longest, target.size, settings)
        parts = [part for part, _ in _parts(source, film, frames, loaded, settings)]
        _announce(film, frames, target, loaded, memory, len(parts), 0)
    else:
        with _sole_use(named):
            _upscale(source, named, is_png, loaded, settings)


def _upscale(source: Source, out: Path, is_png: bool, loaded: Loaded, settings: Settings) -> None:
    started = time.perf_counter()
    work = Work(out, _deciding(source, loaded, settings), is_png)
    if _exists(out) and work.is_named():
        work.remove()
        logger.info("'%s' is complete", out)
        return
    if _exists(out) and not settings.overwrite:
        raise UserError(f"'{out}' exists: --overwrite replaces it, -o names another output")
    known = work.known()
    film, calls = known or (_scan(source, settings), {})
    frames = _range(film, settings)
    target, plan = target_of(source, film, out, is_png, loaded, settings)
    settings, memory = fitted(loaded, film, film.longest, target.size, settings._replace(**calls), known is None)
    if known is None:
        work.begin(film, {name: settings._asdict()[name] for name in FITTED})
    parts = [part for part, _ in _parts(source, film, frames, loaded, settings)]
    missing = [part for part in parts if not work.part(part).is_file()]
    _announce(film, frames, target, loaded, memory, len(parts), len(parts) - len(missing))
    if missing:
        steps = (
            step for part, own in _parts(source, film, frames, loaded, settings) if part in missing for step in own
        )
        _restore(steps, missing, work, target, loaded, settings, len(frames))
    lost = _finish(source, film, frames, target, plan, work, [work.part(part) for part in parts])
    count = sum(len(part) for part in missing)
    _report(film, target, lost, settings.device, count, time.perf_counter() - started)


def _restore(
    steps: Iterable[Step],
    parts: Sequence[range],
    work: Work,
    target: Target,
    loaded: Loaded,
    settings: Settings,
    total: int,
) -> None:
    """Restores and encodes the missing parts; decoder, network and encoder work at the same time."""
    missing = sum(map(len, parts))
    numbers = (number for part in parts for number in part)
    writer, scale = PartWriter(work, target, parts), loaded.spec.scale

    def write(number: int, frame: Frame) -> None:
        pixels = resized(frame.sr, target.size)
        writer.write(number, halves(frame.lq, pixels, scale, target.size) if settings.side_by_side else pixels)

    restored = restored_frames(steps, loaded, settings)
    with StopSignals() as stop, full_float32(), closing(writer), Queue(WAITING) as queue, closing(restored):
        for frame in tqdm(restored, target.out.name, total, initial=total - missing, unit="frame"):
            queue.put(write, next(numbers), frame)
            if stop:
                break
        else:
            queue.wait()
    if stop:
        kept = total - missing + sum(len(part) for part in parts if work.part(part).is_file())
        text = "stopped; %d of %d frames are complete in '%s': the same command resumes there"
        logger.info(text, kept, total, work.root)
        raise SystemExit(130)


def restored_frames(steps: Iterable[Step], loaded: Loaded, settings: Settings) -> Generator[Frame]:
    """Yields the restored frames of the steps."""
    return restore(
        loaded.network,
        steps,
        settings.device,
        num_threads=1,
        precision=settings.precision,
        tile=settings.tile,
        tile_overlap=settings.tile_overlap,
        keep_features=settings.keep_features,
    )


def _finish(
    source: Source, film: Film, frames: range, target: Target, plan: muxing.Plan, work: Work, parts: list[Path]
) -> list[str]:
    """Makes the output of the parts; it appears whole. Returns what of the input could not be kept."""
    lost: list[str] = []
    target.out.parent.mkdir(parents=True, exist_ok=True)
    work.assembled.unlink(missing_ok=True)
    if target.encoding is None:
        work.assembled.touch()
        if not target.out.exists():
            work.frames.replace(target.out)
        else:
            for file in sorted(work.frames.iterdir()):
                file.replace(target.out / file.name)
    else:
        video = None if source.frames else source.path
        lost = muxing.assemble(parts, film, frames, work.whole, target.suffix, video, plan)
        sync(work.whole)
        work.assembled.touch()
        work.whole.replace(target.out)
    sync(target.out.parent)
    work.remove()
    return [*plan.lost, *lost]


def _scan(source: Source, settings: Settings) -> Film:
    logger.info("first pass over '%s': frames, times, cuts", source.path)
    return scan(source, settings.fps, scene_cuts if settings.scene_cut == "auto" else no_cuts)


def _range(film: Film, settings: Settings) -> range:
    """Returns the frames that are restored."""
    count = len(film.times)
    if settings.start >= count:
        option = "--start" if settings.preview is None else "--preview"
        raise UserError(f"{option} {settings.start}: the film has {counted(count, 'frame')}, 0 to {count - 1}")
    return range(count)[settings.start :][: settings.frames]


def _steps(source: Source, film: Film, frames: range, loaded: Loaded, settings: Settings) -> Iterator[Step]:
    clips = shots(film, source.path.name, frames, frame_names(source), Reader(source).read)
    overlap = settings.overlap
    return iter(steps_of(loaded.spec, clips, settings.segment, warm_up=overlap, look_ahead=overlap))


def _parts(
    source: Source, film: Film, frames: range, loaded: Loaded, settings: Settings
) -> Iterator[tuple[range, list[Step]]]:
    """Yields the frames of each part with the steps that give them; a part ends with a step."""
    first, held = frames.start, []
    for step in _steps(source, film, frames, loaded, settings):
        held.append(step)
        count = sum(len(step.gives) for step in held)
        if count >= PART or first + count == frames.stop:
            yield range(first, first + count), held
            first, held = first + count, []


def _deciding(source: Source, loaded: Loaded, settings: Settings) -> dict[str, Any]:
    """Returns all that decides the output's pixels."""
    own = settings._asdict()
    for name in ("overwrite", "dry_run", "preview", "hdr"):
        del own[name]
    versions = f"vsr {vsr.__version__}, torch {torch.__version__}, PyAV {av.__version__}"
    return {**own, "input": digest_of(source), "weights": loaded.digest, "versions": versions}


def _exists(out: Path) -> bool:
    return out.is_file() or (out.is_dir() and any(out.iterdir()))


@contextmanager
def _sole_use(out: Path) -> Iterator[None]:
    """Keeps other processes from writing the same output; removes a work folder without work."""
    root = folder_of(out)
    try:
        with sole_use(
            root / out.name, doing="being written", remedy="wait for it, stop it, or name another output (-o)"
        ):
            yield
    finally:
        if root.is_dir() and not any(root.glob("*/manifest.json")):
            shutil.rmtree(root, ignore_errors=True)


def _announce(
    film: Film, frames: range, target: Target, loaded: Loaded, memory: str, num_parts: int, num_done: int
) -> None:
    size = f"{film.width}x{film.height} → {target.size.width}x{target.size.height}"
    shots = counted(1 + sum(cut in frames[1:] for cut in film.cuts), "shot")
    parts = f"written in {counted(num_parts, 'part')}" + (f" ({num_done} done before)" if num_done else "")
    encoding = target.encoding
    kind = "PNG" if encoding is None else f"{encoding.codec}, {encoding.pixel_format}, crf {encoding.crf:g}"
    network = f"{type(loaded.network).__name__} ×{loaded.spec.scale}"
    trained = f" (trained for {loaded.degradation})" if loaded.degradation else ""
    text = "%s, %s, %s, %s, %s, by %s%s → '%s' (%s)"
    logger.info(text, counted(len(frames), "frame"), size, shots, parts, memory, network, trained, target.out, kind)


def _report(film: Film, target: Target, lost: list[str], device: torch.device, count: int, seconds: float) -> None:
    """Logs what could not be kept, the speed, the peak memory and the size."""
    if lost := [*film.losses, *lost]:
        logger.warning("not kept: %s", "; ".join(lost))
    files = [target.out] if target.out.is_file() else target.out.iterdir()
    memory = f"{size_text(peak_memory(torch.device('cpu')) * 2**30)} of memory"
    if device.type == "cuda":
        memory += f", {size_text(peak_memory(device) * 2**30)} of GPU memory"
    size = size_text(sum(file.stat().st_size for file in files))
    speed = f"{count / seconds:.2f} frames/s, " if count else ""
    logger.info("'%s' is complete: %s%s at most, %s", target.out, speed, memory, size)


def _preview(source: Source, out: Path, loaded: Loaded, settings: Settings) -> None:
    """Writes a frame as LQ, bicubic and the network's, side by side."""
    number = settings.preview or 0
    film = _scan(source, settings)
    frames = _range(film, settings._replace(start=number, frames=1))
    steps = _steps(source, film, frames, loaded, settings)
    with full_float32(), closing(restored_frames(steps, loaded, settings)) as restored:
        frame: Frame = next(restored)
    file = out.with_name(f"{out.stem}_frame{number}.png")
    write_image(file, preview(frame.lq, frame.sr, loaded.spec.scale))
    logger.info("frame %d: LQ, bicubic and network side by side in '%s'", number, file)
