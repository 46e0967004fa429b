"""Writes packed frames into an LMDB: streaming, resumable, and never under its name before it is whole."""

import json
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import lmdb
import numpy as np

from vsr.data.sources.base import FrameStore
from vsr.data.sources.packs import FORMS, HEADER, HEADER_BYTES, MAGIC, TILE_SIZE, Form, read_header
from vsr.utils.files import free_bytes, write_text_atomically

# Frames per transaction: memory stays below about 100 frames of 720p, and a killed run repeats at most these.
_BATCH = 32
_FIRST_MAP = 1 << 28
_PLAN = "pack.json"  # what a pack is made of
_SAMPLE = 8  # frames packed to estimate the size of all


class PackPlan(NamedTuple):
    """What a pack is made of. A run goes on only with a partial pack of the same plan."""

    source: str
    form: Form
    tile_size: int
    keys: list[str]


class PackReport(NamedTuple):
    """What a run did."""

    written: int
    already_there: int
    bad: list[str]  # messages of frames left out
    num_bytes: int  # of the finished pack


def partial_path(target: Path) -> Path:
    """Returns the folder in which a pack grows."""
    return target.with_name(f"{target.name}.partial")


def estimate_bytes(store: FrameStore, plan: PackPlan) -> int:
    """Returns about how large a pack will be, from a few frames spread over all."""
    step = max(1, len(plan.keys) // _SAMPLE)
    sample = []
    for key in plan.keys[step // 2 :: step][:_SAMPLE]:
        try:
            sample.append(len(pack_frame(store.read(key), plan.form, plan.tile_size)))
        except ValueError:
            continue  # named when its turn comes
    return int(np.mean(sample) * len(plan.keys) * 1.01) if sample else 0


def write_pack(
    store: FrameStore,
    target: Path,
    plan: PackPlan,
    num_threads: int = 1,
    skip_bad: bool = False,
    progress: Callable[[int], object] = lambda _: None,
) -> PackReport:
    """Packs the frames of ``plan`` into ``target``, or goes on where an earlier run stopped.

    Args:
        store: where the frames come from.
        target: the LMDB to make; appears when it is complete.
        plan: which frames, in which form.
        num_threads: frames packed at a time.
        skip_bad: leaves unreadable frames out instead of stopping.
        progress: called with the number of frames done since the last call.

    Raises:
        FileExistsError: the target exists.
        ValueError: a partial pack of another plan is in the way, or a frame is unreadable.
        OSError: the disk is full; what is written stays and the next run goes on.
    """
    if target.exists():
        raise FileExistsError(f"'{target}' exists; remove it to pack again, or check it with --verify")
    partial = partial_path(target)
    _check_plan(partial, plan)
    with lmdb.open(str(partial), map_size=_FIRST_MAP, meminit=False) as environment:
        with environment.begin() as transaction:
            there = {bytes(key).decode() for key in transaction.cursor().iternext(values=False)}
        missing = [key for key in plan.keys if key not in there]
        progress(len(plan.keys) - len(missing))
        bad: list[str] = []
        with ThreadPoolExecutor(num_threads) as pool:
            for batch in _batches(missing):
                frames = list(pool.map(lambda key: _pack_one(store, key, plan, skip_bad), batch))
                bad += [message for message in frames if isinstance(message, str)]
                _commit(
                    environment,
                    {key: frame for key, frame in zip(batch, frames, strict=True) if isinstance(frame, bytes)},
                )
                progress(len(batch))
        write_text_atomically(partial / "meta_info.txt", "".join(_list_frames(environment, plan.keys)))
    (partial / "lock.mdb").unlink(missing_ok=True)
    num_bytes = sum(file.stat().st_size for file in partial.iterdir())
    partial.rename(target)
    return PackReport(len(missing) - len(bad), len(plan.keys) - len(missing), bad, num_bytes)


def verify_pack(pack: FrameStore, source: FrameStore | None) -> Iterator[str | None]:
    """Yields for each frame of a pack what is wrong with it, or None.

    Args:
        pack: the finished pack; every frame is unpacked and compared with its checksum.
        source: where its frames came from; compared pixel by pixel if given.
    """
    for key in (f"{clip}/{frame}" for clip in pack.clips() for frame in pack.frames(clip)):
        try:
            pixels = pack.read(key)  # compares the checksum
            differs = source is not None and not np.array_equal(pixels, source.read(key))
            yield f"'{key}' is not '{source.root / key}' as it is now" if source and differs else None
        except (ValueError, FileNotFoundError) as error:
            yield str(error)


def pack_frame(pixels: np.ndarray, form: Form, tile_size: int = TILE_SIZE) -> bytes:
    """Returns a frame (h, w, 3) uint8 in packed form."""
    h, w, _ = pixels.shape
    header = HEADER.pack(MAGIC, FORMS.index(form), tile_size, h, w, zlib.crc32(np.ascontiguousarray(pixels).data))
    padded = np.pad(pixels, ((0, -h % tile_size), (0, -w % tile_size), (0, 0)), mode="edge")
    rows, columns = padded.shape[0] // tile_size, padded.shape[1] // tile_size
    tiles = padded.reshape(rows, tile_size, columns, tile_size, 3).swapaxes(1, 2)  # (rows, columns, y, x, 3)
    if form == "raw":
        return header + tiles.tobytes()
    streams = [_deflate(tile) for tile in _errors(tiles.reshape(-1, tile_size, tile_size, 3))]
    offsets = np.cumsum([0, *map(len, streams)], dtype="<u4")
    return b"".join([header, offsets.tobytes(), *streams])


def _errors(tiles: np.ndarray) -> np.ndarray:
    """Returns the prediction errors (n, 3, y, x) of tiles (n, y, x, 3)."""
    errors = np.ascontiguousarray(np.moveaxis(tiles, -1, 1))
    errors[:, ::2] -= errors[:, 1:2]
    errors[..., 1:, :] -= errors[..., :-1, :].copy()
    errors[..., 1:] -= errors[..., :-1].copy()
    return errors


def _deflate(errors: np.ndarray) -> bytes:
    # Run-length matching: 3 times as fast as the default strategy, and smaller, since errors hardly repeat otherwise.
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
    return compressor.compress(errors.tobytes()) + compressor.flush()


def _check_plan(partial: Path, plan: PackPlan) -> None:
    """Creates the folder of a partial pack; raises ``ValueError`` if it holds one of another plan."""
    text = json.dumps(plan._asdict(), indent=0)
    file = partial / _PLAN
    if file.is_file() and file.read_text() != text:
        raise ValueError(
            f"'{partial}' was begun with other options or from other frames; remove it, or pack as it was begun"
        )
    write_text_atomically(file, text)


def _pack_one(store: FrameStore, key: str, plan: PackPlan, skip_bad: bool) -> bytes | str:
    """Returns a packed frame, or why there is none."""
    try:
        return pack_frame(store.read(key), plan.form, plan.tile_size)
    except (ValueError, FileNotFoundError) as error:
        if not skip_bad:
            raise
        return str(error)


def _commit(environment: lmdb.Environment, frames: dict[str, bytes]) -> None:
    """Stores frames, all or none; the map grows as it must."""
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key, frame in frames.items():
                    transaction.put(key.encode(), frame)
            return
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])
        except lmdb.Error as error:
            free = free_bytes(Path(environment.path())) / 1e6
            raise OSError(
                f"cannot write to '{environment.path()}': {error} ({free:.0f} MB free); what is packed stays, run again"
            ) from error


def _list_frames(environment: lmdb.Environment, keys: list[str]) -> Iterator[str]:
    """Yields the lines of meta_info.txt."""
    with environment.begin(buffers=True) as transaction:
        for key in keys:
            value = transaction.get(key.encode())
            if value is not None:
                frame = read_header(value[:HEADER_BYTES])
                yield f"{key}.png ({frame.height},{frame.width},3) 0\n"


def _batches(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), _BATCH):
        yield keys[start : start + _BATCH]
