"""Many videos to many folders of frames: in parallel, restartable, with a bar."""

import csv
import io
import os
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from preparation.extract_clip import encode_jpeg, extract_clip, fit
from vsr.data.lists.clip_lists import LIST_NAMES, ClipEntry, entry_of
from vsr.data.sets.roots import gap_of
from vsr.data.sources import images
from vsr.data.sources.frame_files import list_frames
from vsr.data.video.reader import VideoInfo, decode, probe
from vsr.utils.errors import UserError
from vsr.utils.files import check_space, free_bytes, size_text, write_atomically
from vsr.utils.log import counted

NUM_SAMPLES = 16  # videos of which a frame is encoded, to estimate how much space all will take


class Job(NamedTuple):
    """A video and the folder of its frames."""

    video: Path
    folder: Path


class Settings(NamedTuple):
    """How videos are extracted."""

    threads: int = os.cpu_count() or 1
    max_side: int | None = None
    accept_short: bool = False
    dry_run: bool = False


def extract_all(jobs: list[Job], settings: Settings) -> list[str]:
    """Extracts the videos that have no folder of frames yet.

    Returns:
        A message for each video that could not be read. The others are extracted nevertheless.

    Raises:
        UserError: there is not enough space, or the clips that are there were extracted with another ``max_side``.
        OSError: something cannot be written.
    """
    todo = [job for job in jobs if not is_done(job)]
    for job in [job for job in jobs if is_done(job)][:1]:  # one is enough; all would take as long as the lists
        _check_side(job, settings.max_side)
    tqdm.write(f"{counted(len(jobs), 'clip')}, {len(jobs) - len(todo)} of them extracted before")
    infos, failures = _probe_all(todo, settings.threads)
    if infos:
        _check_space(infos, settings.max_side)
    if infos and not settings.dry_run:
        failures += _extract(infos, settings)
    for failure in failures:
        tqdm.write(f"not extracted: {failure}")
    return failures


def is_done(job: Job) -> bool:
    """Returns whether a clip's folder is there; it gets its name when it is complete."""
    return job.folder.is_dir() and any(job.folder.iterdir())


def list_entries(jobs: list[Job], root: Path, threads: int) -> tuple[list[ClipEntry], list[str]]:
    """Returns the list entries of the extracted clips, and a message for each clip with wrong frames.

    Size and count are those of the frames; the rate is the header's.
    """
    done = [job for job in jobs if is_done(job)]
    with ThreadPoolExecutor(threads) as pool:
        results = pool.map(lambda job: _entry(job, root), done)
        found = list(tqdm(results, total=len(done), unit="clip", desc="Lists"))
    failures = [message for message in found if isinstance(message, str)]
    for failure in failures:
        tqdm.write(f"not listed: {failure}")
    return [entry for entry in found if isinstance(entry, ClipEntry)], failures


def write_lists(root: Path, parts: Mapping[str, list[ClipEntry]]) -> None:
    """Writes train_list.csv, val_list.csv and test_list.csv.

    An existing list with other content is kept as train_list.csv.old, .old1 and so on: it may be edited by hand.
    """
    for name in LIST_NAMES:
        file, entries = root / name, parts[name.split("_")[0]]
        before = file.read_bytes() if file.is_file() else None
        after = format_clip_list(entries) if entries else None
        if before is not None and before != after:
            _keep(file, before)
            if not entries:
                file.unlink()
        if entries and before != after:
            write_clip_list(file, entries)
        tqdm.write(f"{file}: {counted(len(entries), 'clip')}" if entries else f"{file}: no clips for it, not written")


def format_clip_list(entries: Iterable[ClipEntry]) -> bytes:
    """Returns the content of a list's file, with its header; only cells with a comma are quoted."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(ClipEntry._fields)
    for entry in entries:
        cells = entry._replace(fps=None if entry.fps is None else f"{entry.fps:g}")
        writer.writerow(["" if cell is None else cell for cell in cells])
    return table.getvalue().encode()


def write_clip_list(path: str | Path, entries: Iterable[ClipEntry]) -> None:
    """Writes a list atomically."""
    content = format_clip_list(entries)
    write_atomically(Path(path), lambda stream: stream.write(content))


def _keep(file: Path, content: bytes) -> None:
    """Writes the content of a list that will be replaced to the first free name."""
    names = (f"{file.name}.old{number or ''}" for number in count())
    old = next(path for path in map(file.with_name, names) if not os.path.lexists(path))
    write_atomically(old, lambda stream: stream.write(content))
    tqdm.write(f"{file} was different: it is now {old.name}")


def _entry(job: Job, root: Path) -> ClipEntry | str:
    problem = _name_problem(job)
    if problem:
        return problem
    try:
        frames = list_frames(job.folder)
        if (gap := gap_of(job.folder.name, frames.stems(), job.folder)) is not None:
            return f"{gap}: remove the folder and prepare the clip again"
        (first,) = frames.files([0])
        h, w = images.decode(first.read_bytes(), f"frame '{first}'").shape[:2]
    except ValueError as error:
        return str(error)
    entry = entry_of(job.folder.name)._replace(num_frames=len(frames.names), width=w, height=h)
    if not job.video.is_file():
        return entry
    video = job.video.relative_to(root) if job.video.is_relative_to(root) else job.video
    info = _try_probe(job)
    return entry._replace(video=video.as_posix(), fps=round(info.fps, 3) if isinstance(info, VideoInfo) else None)


def is_utf8(name: str) -> bool:
    """Returns whether a list can hold a file's name; Linux allows any bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _name_problem(job: Job) -> str | None:
    """Returns why no list can hold a clip's name, None if one can."""
    name = job.folder.name
    if not is_utf8(name):
        return f"clip {str(job.folder)!a} has a name that is not UTF-8; rename its video and its folder"
    if name != name.strip():
        return f"clip '{name}' begins or ends with a blank, which lists lose; rename '{job.video}' and its folder"
    return None


def _try_probe(job: Job) -> VideoInfo | str:
    try:
        return probe(job.video)
    except (ValueError, FileNotFoundError) as error:
        return str(error)


def _probe_all(jobs: list[Job], threads: int) -> tuple[dict[Job, VideoInfo], list[str]]:
    """Returns the headers, and messages for the videos that cannot be opened."""
    with ThreadPoolExecutor(threads) as pool:
        results = pool.map(lambda job: _name_problem(job) or _try_probe(job), jobs)
        found = list(tqdm(results, total=len(jobs), unit="video", desc="Headers", disable=not jobs))
    pairs = list(zip(jobs, found, strict=True))
    infos = {job: info for job, info in pairs if isinstance(info, VideoInfo)}
    return infos, [message for _, message in pairs if isinstance(message, str)]


def _check_side(job: Job, max_side: int | None) -> None:
    """Raises ``UserError`` if an extracted clip has another size than it would get now."""
    entry, info = _entry(job, job.folder), _try_probe(job)
    if isinstance(entry, str):
        return  # reported when it is listed
    side = max(entry.width or 0, entry.height or 0)
    longest = side if isinstance(info, str) else max(info.width, info.height)
    expected = min(longest, max_side or longest)
    if side != expected:
        raise UserError(
            f"the longest side of the frames in '{job.folder}' is {side} pixels, now it would be {expected}: give the "
            f"--max-side with which they were extracted, if any, or move '{job.folder.parent}' away"
        )


def _check_space(infos: Mapping[Job, VideoInfo], max_side: int | None) -> None:
    """Raises ``UserError`` if the disk cannot hold the frames, estimated from some of them."""
    jobs, sizes, longest = list(infos), [], 0
    for job in jobs[:: max(len(jobs) // NUM_SAMPLES, 1)]:
        for frame, _ in islice(decode(job.video), 1):
            image = fit(frame, max_side)
            sizes.append(len(encode_jpeg(image)))
            longest = max(longest, *image.shape[:2])
    total = sum(info.num_frames for info in infos.values())
    needed = total * sum(sizes) / max(len(sizes), 1)
    tqdm.write(
        f"{counted(len(jobs), 'video')}, {counted(total, 'frame')}: about {size_text(needed)} to write, "
        f"{size_text(free_bytes(jobs[0].folder))} free"
    )
    remedy = f"make room, or write smaller frames: --max-side {longest // 2} needs about a quarter"
    check_space(jobs[0].folder.parent, needed, remedy)


def _extract(infos: Mapping[Job, VideoInfo], settings: Settings) -> list[str]:
    """Extracts videos; returns messages for those that are broken. Ctrl-C and a full disk end it at the next frame."""
    failures: list[str] = []
    is_stopping = threading.Event()
    total = sum(info.num_frames for info in infos.values())

    with tqdm(total=total, unit="frame", desc="Frames") as bar, ThreadPoolExecutor(settings.threads) as pool:

        def tick() -> None:
            if is_stopping.is_set():
                raise InterruptedError("stopped")
            bar.update()

        futures = [pool.submit(extract_clip, *job, settings.max_side, settings.accept_short, tick) for job in infos]
        try:
            for future in as_completed(futures):
                try:
                    for note in future.result().notes:
                        tqdm.write(f"note: {note}")
                except ValueError as error:
                    failures.append(str(error))
        except BaseException:
            is_stopping.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return failures
