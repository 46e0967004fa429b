"""Packs a folder of frames (or an LMDB of PNGs) into an LMDB from which training reads only the crops it needs.

    python scripts/pack_frames.py --from datasets/REDS/train_sharp --to datasets/REDS/train_sharp.lmdb
    python scripts/pack_frames.py --from datasets/REDS/train_sharp --to ... --form tiles   # half the size, slower
    python scripts/pack_frames.py --verify datasets/REDS/train_sharp.lmdb --from datasets/REDS/train_sharp

A stopped run continues when started again; the pack gets its name when it is complete.
In the options file: dataroot_gt: datasets/REDS/train_sharp.lmdb and io_backend: {type: lmdb}. Sizes and speeds of the
two forms are in docs/data.md.
"""

import argparse
import os
import shutil
from pathlib import Path

import lmdb
from tqdm import tqdm

from preparation.arguments import at_least_one, open_any
from preparation.pack_writer import PackPlan, estimate_bytes, partial_path, verify_pack, write_pack
from vsr.data.lists.meta_info import listed_frames, read_meta_info
from vsr.data.sets.roots import left_out, warn_of_left_out
from vsr.data.sources.base import DEGRADATION_FILE, FrameStore
from vsr.data.sources.packs import TILE_SIZE
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.files import check_space, free_bytes, size_text
from vsr.utils.locks import sole_preparation


def main(arguments: list[str] | None = None) -> int:
    """Does what the command line asks for; returns the exit code, 1 if a pack is wrong."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="source", type=Path, help="folder of clips, or LMDB of images")
    parser.add_argument("--to", type=Path, help="LMDB to make")
    parser.add_argument("--meta", type=Path, help="only the clips and frames of this meta file")
    parser.add_argument("--form", choices=["raw", "tiles"], default="raw", help="plain or compressed (default: raw)")
    parser.add_argument("--tile-size", type=int, default=TILE_SIZE, help="side of a tile (default: %(default)s)")
    parser.add_argument("--threads", type=at_least_one, default=os.cpu_count() or 1, help="frames packed at a time")
    parser.add_argument("--on-bad-frame", choices=["error", "skip"], default="error")
    parser.add_argument("--dry-run", action="store_true", help="prints the size of the pack and stops")
    parser.add_argument("--verify", type=Path, metavar="LMDB", help="check a pack, against --from too if given")
    options = parser.parse_args(arguments)
    if options.verify is None and (options.source is None or options.to is None):
        parser.error("--from and --to are needed (or --verify)")
    if options.verify is not None and options.meta is not None and options.source is None:
        parser.error("--meta says which frames of --from a pack should hold: give --from, too")
    if not 1 <= options.tile_size <= 255:
        parser.error(f"--tile-size {options.tile_size} is not in 1 to 255")
    try:
        if options.verify:
            return 1 if verify(options.verify, options.source, options.meta) else 0
        with sole_preparation(options.to, not options.dry_run):
            pack(options)
    except (ValueError, FileNotFoundError, lmdb.Error) as error:
        raise UserError(str(error)) from None
    except OSError as error:
        if error.errno is None:  # not the system's, but write_pack's: it says what to do
            raise UserError(str(error)) from None
        raise
    return 0


def pack(options: argparse.Namespace) -> None:
    """Packs."""
    store = open_any(options.source)
    plan = PackPlan(str(options.source.resolve()), options.form, options.tile_size, keys_of(store, options.meta))
    warn_of_left_out(left_out(store))
    if not plan.keys:
        raise ValueError(f"'{options.source}' holds no frames, and no folders of frames")
    size = estimate_bytes(store, plan)
    partial = partial_path(options.to)
    size -= (partial / "data.mdb").stat().st_size if (partial / "data.mdb").is_file() else 0
    free = size_text(free_bytes(options.to))
    print(f"{len(plan.keys)} frames as {options.form}: about {size_text(size)} to write, {free} free")
    check_space(options.to, size, "--form tiles needs about half, --meta packs fewer clips")
    if options.dry_run:
        return
    with tqdm(total=len(plan.keys), unit="frame", desc=options.to.name) as bar:
        report = write_pack(store, options.to, plan, options.threads, options.on_bad_frame == "skip", bar.update)
    stamp = options.source / DEGRADATION_FILE
    if stamp.is_file():
        shutil.copyfile(stamp, options.to / stamp.name)
    for message in report.bad:
        print(f"left out: {message}")
    print(
        f"{options.to}: {size_text(report.num_bytes)}, {report.written} frames packed now, "
        f"{report.already_there} before, {len(report.bad)} left out"
    )


def verify(pack_root: Path, source_root: Path | None, meta: Path | None) -> bool:
    """Checks a pack; returns whether anything is wrong."""
    if pack_root.is_dir() and not (pack_root / "data.mdb").is_file():
        raise ValueError(f"--verify '{pack_root}' is not an LMDB (it holds no data.mdb); name what --to has made")
    pack_store = open_any(pack_root)
    source = open_any(source_root) if source_root else None
    total = sum(len(pack_store.frames(clip)) for clip in pack_store.clips())
    wrong = 0
    for message in tqdm(verify_pack(pack_store, source), total=total, unit="frame", desc="Verify"):
        if message is not None:
            wrong += 1
            tqdm.write(message)
    lacking = [key for key in keys_of(source, meta) if not pack_store.has(key)] if source else []
    if lacking:
        tqdm.write(
            f"'{pack_root}' lacks {len(lacking)} frames of '{source_root}': {', '.join(lacking[:3])}"
            f"{' …' if lacking[3:] else ''}; for a pack of a part give its --meta, too"
        )
    compared = f", {len(lacking)} lacking, compared with '{source_root}'" if source else ""
    print(f"{pack_root}: {total} frames, {wrong} wrong{compared}")
    return wrong > 0 or bool(lacking)


def keys_of(store: FrameStore, meta: Path | None) -> list[str]:
    """Returns the keys of all frames, or of those a meta file lists."""
    if meta is None:
        return [f"{clip}/{frame}" for clip in store.clips() for frame in store.frames(clip)]
    keys = []
    for clip in read_meta_info(meta):
        frames = listed_frames(clip, store.frames(clip.name), store.root)
        keys += [f"{clip.name}/{frame}" for frame in frames]
    return list(dict.fromkeys(keys))


if __name__ == "__main__":
    exit_cleanly(main)
