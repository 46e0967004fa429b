"""Arranges REDS for training, from the official zips or from folders in any known layout.

    python scripts/prepare_reds.py --from DOWNLOADS --to datasets/REDS               # links folders, unpacks zips
    python scripts/prepare_reds.py --from DOWNLOADS --to datasets/REDS --mode move   # or copy
    python scripts/prepare_reds.py --to datasets/REDS --check                        # only checks the folder

It needs train_sharp, train_sharp_bicubic, val_sharp and val_sharp_bicubic from
https://seungjunnah.github.io/Datasets/reds.html. Validation clip k becomes clip 240 + k, as in every REDS list:

    REDS/train_sharp/{000..269}/{00000000..00000099}.png              720 x 1280
    REDS/train_sharp_bicubic/X4/{000..269}/{00000000..00000099}.png   180 x 320

A clip gets its name when it is complete; started again, the script continues with the missing clips.
"""

import argparse
import os
import re
import shutil
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from tqdm import tqdm

from preparation.arguments import at_least_one
from vsr.data.sources.base import IMAGE_SUFFIXES
from vsr.data.sources.images import SIZE_BYTES, image_size
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.files import check_space
from vsr.utils.locks import sole_preparation

Mode = Literal["link", "move", "copy"]
NUM_FRAMES = 100
FRAMES = "[!.]*.png"  # not what macOS leaves beside files, ._00000000.png
NUM_TRAIN, NUM_VAL = 240, 30
SIDES = {"train_sharp": (720, 1280), "train_sharp_bicubic/X4": (180, 320)}  # folder below REDS: size of its frames
_MEMBER = re.compile(r"(?:^|/)(\d{3})/(\d{8}\.png)$")


Clip = Path | list[zipfile.ZipInfo]  # a folder, or members of a zip


class Part(NamedTuple):
    """One of the four archives."""

    name: str
    side: str
    num_clips: int
    first_clip: int  # its clip 000 becomes this


def parts() -> list[Part]:
    """Returns the archives that make up the data set."""
    gt, lq = SIDES
    return [
        Part("train_sharp", gt, NUM_TRAIN, 0),
        Part("train_sharp_bicubic", lq, NUM_TRAIN, 0),
        Part("val_sharp", gt, NUM_VAL, NUM_TRAIN),
        Part("val_sharp_bicubic", lq, NUM_VAL, NUM_TRAIN),
    ]


def main(arguments: list[str] | None = None) -> None:
    """Prepares and checks."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="source", type=Path, help="folder with the zips or the unpacked folders")
    parser.add_argument("--to", type=Path, default=Path("datasets/REDS"), help="folder to make (default: %(default)s)")
    parser.add_argument("--mode", choices=["link", "move", "copy"], default="link", help="what to do with folders")
    parser.add_argument("--threads", type=at_least_one, default=os.cpu_count() or 1)
    parser.add_argument("--dry-run", action="store_true", help="prints the plan and stops")
    parser.add_argument("--check", action="store_true", help="only check the result")
    options = parser.parse_args(arguments)
    if not options.check:
        if options.source is None:
            parser.error("--from is needed (or --check)")
        with sole_preparation(options.to, not options.dry_run):
            prepare(options.source, options.to, options.mode, options.threads, options.dry_run)
    if not options.dry_run:
        check(options.to, options.threads)


def prepare(source: Path, target: Path, mode: Mode, threads: int, dry_run: bool) -> None:
    """Makes the clips that are missing below ``target``."""
    refuse_half_merged(target)
    plan: list[tuple[Part, int, Clip]] = []
    archives: dict[str, zipfile.ZipFile] = {}
    for part in parts():
        missing = [k for k in range(part.num_clips) if not clip_folder(target, part, k).exists()]
        if not missing:
            print(f"{part.name}: all {part.num_clips} clips are in place")
            continue
        clips = find_part(source, part, archives)
        lost = [f"{k:03d}" for k in missing if k not in clips]
        if lost:
            raise UserError(
                f"{part.name} in '{source}' lacks {len(lost)} of {part.num_clips} clips of {NUM_FRAMES} frames: "
                f"{' '.join(lost[:8])}"
            )
        num_zipped = sum(not isinstance(clips[k], Path) for k in missing)
        print(
            f"{part.name}: {len(missing)} of {part.num_clips} clips, {len(missing) - num_zipped} to {mode} and "
            f"{num_zipped} to unpack, to clip {part.first_clip:03d} and up"
        )
        plan += [(part, k, clips[k]) for k in missing]
    check_space(target, bytes_to_write(plan, mode), "make room, or name another folder")
    if dry_run:
        return
    with ThreadPoolExecutor(threads) as pool, tqdm(total=len(plan), unit="clip") as bar:
        for start in range(0, len(plan), 4 * threads):
            batch = plan[start : start + 4 * threads]
            for _ in pool.map(lambda job: place(job[2], clip_folder(target, job[0], job[1]), mode, archives), batch):
                bar.update()


def clip_folder(target: Path, part: Part, number: int) -> Path:
    """Returns where a part's clip belongs."""
    return target / part.side / f"{part.first_clip + number:03d}"


def refuse_half_merged(target: Path) -> None:
    """Raises if a clip below ``target`` is not whole: something else than this script was stopped half-way."""
    for side in SIDES:
        for clip in clip_folders(target / side):
            if not is_whole(clip):
                count = sum(1 for _ in clip.glob(FRAMES))
                raise UserError(
                    f"'{clip}' holds {count} frames instead of {NUM_FRAMES}: a copy was stopped half-way. Remove that "
                    "folder and start again"
                )


def is_whole(clip: Path) -> bool:
    """Returns whether a clip's folder holds as many frames as it has to."""
    return sum(1 for _ in clip.glob(FRAMES)) == NUM_FRAMES


def clip_folders(root: Path) -> list[Path]:
    """Returns the clip folders of a root, sorted; none if there is no root."""
    return sorted(path for path in root.glob("[0-9][0-9][0-9]") if path.is_dir()) if root.is_dir() else []


def find_part(source: Path, part: Part, archives: dict[str, zipfile.ZipFile]) -> dict[int, Clip]:
    """Returns where each whole clip of a part is: a folder, else members of a zip, opened into ``archives``."""
    clips: dict[int, Clip] = dict(found_folders(source, part))
    if len(clips) < part.num_clips:
        clips = {**found_members(source, part, archives), **clips}
    if not clips:
        raise UserError(
            f"'{source}' holds neither {part.name}.zip nor a folder {part.name} with clips of {NUM_FRAMES} frames; it "
            "is at https://seungjunnah.github.io/Datasets/reds.html"
        )
    return clips


def found_folders(source: Path, part: Part) -> dict[int, Path]:
    """Returns the folders of a part's whole clips by their number in it; the first of the known trees that has any."""
    train = part.name.replace("val", "train")
    for root in known_roots(source, part.name):
        clips = {int(clip.name): clip for clip in clip_folders(root) if is_whole(clip)}
        if clips:
            return clips
    for root in known_roots(source, train) if part.name != train else ():  # regrouped before, by whatever tool
        clips = {int(clip.name) - NUM_TRAIN: clip for clip in clip_folders(root) if is_whole(clip)}
        clips = {number: clip for number, clip in clips.items() if number >= 0}
        if clips:
            return clips
    return {}


def known_roots(source: Path, name: str) -> Iterator[Path]:
    """Yields where the clips of a part may be: the tree inside the zips, a folder named as its zip around it, flat."""
    top = name.split("_")[0]  # train or val
    folders = [f"{top}/{name}", f"{name}/{name}", f"{name}/{top}/{name}", name]
    for folder in [*folders, "."] if source.name == name else folders:
        if name.endswith("bicubic"):
            yield source / folder / "X4"
        yield source / folder


def found_members(source: Path, part: Part, archives: dict[str, zipfile.ZipFile]) -> dict[int, Clip]:
    """Returns the members of a part's whole clips, of all its zips in ``source`` and the folders in it."""
    members: dict[int, dict[str, zipfile.ZipInfo]] = defaultdict(dict)
    names = (f"{part.name}.zip", f"{part.name}_part*.zip")  # one mirror has train_sharp_part1.zip to part3
    for file in sorted(file for name in names for pattern in (name, f"*/{name}") for file in source.glob(pattern)):
        try:
            archive = archives[str(file)] = zipfile.ZipFile(file)
        except zipfile.BadZipFile as error:
            raise UserError(f"'{file}' is damaged or not complete ({error}); download it again") from None
        for info in archive.infolist():
            match = _MEMBER.search(info.filename)
            if match:
                info.comment = str(file).encode()  # which archive it is in
                members[int(match[1])][match[2]] = info
    return {number: list(clip.values()) for number, clip in members.items() if len(clip) == NUM_FRAMES}


def bytes_to_write(plan: list[tuple[Part, int, Clip]], mode: Mode) -> int:
    """Returns how much the clips take that are unpacked or copied."""
    needed = 0
    for _, _, clip in plan:
        if not isinstance(clip, Path):
            needed += sum(info.file_size for info in clip)
        elif mode == "copy":
            needed += sum(file.stat().st_size for file in clip.glob(FRAMES))
    return needed


def place(clip: Clip, target: Path, mode: Mode, archives: dict[str, zipfile.ZipFile]) -> None:
    """Puts one clip in its place, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():  # its folder has gone, or the clip would not be missing
        target.unlink()
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if not isinstance(clip, Path):
        partial.mkdir()
        for info in clip:
            unpack(archives[info.comment.decode()], info, partial / Path(info.filename).name)
    elif mode == "link":
        target.symlink_to(clip.resolve(), target_is_directory=True)
        return
    else:
        is_same_disk = clip.stat().st_dev == target.parent.stat().st_dev
        if mode == "move" and is_same_disk:
            clip.rename(target)
            return
        shutil.copytree(clip, partial)
    partial.rename(target)
    if mode == "move" and isinstance(clip, Path):
        shutil.rmtree(clip)


def unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path) -> None:
    """Writes one member of a zip."""
    try:
        with archive.open(info) as packed, file.open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"'{archive.filename}' is damaged in {info.filename} ({error}); download it again") from None


def check(target: Path, threads: int) -> None:
    """Raises unless every frame of every clip is there and has its size."""
    with ThreadPoolExecutor(threads) as pool:
        jobs = [
            (target / side / f"{clip:03d}", size) for side, size in SIDES.items() for clip in range(NUM_TRAIN + NUM_VAL)
        ]
        results = pool.map(lambda job: list(problems(*job)), jobs)
        found = [problem for result in tqdm(results, total=len(jobs), unit="clip", desc="Check") for problem in result]
    if found:
        more = f" (and {len(found) - 5} more)" if len(found) > 5 else ""
        raise UserError(f"{len(found)} problems in '{target}': {'; '.join(found[:5])}{more}")
    clips = NUM_TRAIN + NUM_VAL
    print(f"'{target}' is complete: {clips} clips x {NUM_FRAMES} frames, GT and LQ")
    print(f"val_partition REDS4: clips 000 011 015 020 test, the other {clips - 4} train")
    print(f"val_partition official: clips {NUM_TRAIN} to {clips - 1} test, the other {NUM_TRAIN} train")


def is_frame(name: str) -> bool:
    """Returns whether a file of this name is read as a frame: a .DS_Store or Thumbs.db is not."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def problems(clip: Path, size: tuple[int, int]) -> Iterator[str]:
    """Yields what is wrong with a clip's folder."""
    if not clip.is_dir():
        yield f"'{clip}' is missing"
        return
    expected = {f"{number:08d}.png" for number in range(NUM_FRAMES)}
    names = {file.name for file in clip.iterdir()}
    lacking, extra = sorted(expected - names), sorted(name for name in names - expected if is_frame(name))
    if lacking:
        yield f"'{clip}' lacks {len(lacking)} of {NUM_FRAMES} frames: {lacking[0]}{', …' if lacking[1:] else ''}"
    if extra:
        yield f"'{clip}' holds {len(extra)} frames too many: {extra[0]}{', …' if extra[1:] else ''}"
    for name in sorted(expected & names):
        with (clip / name).open("rb") as file:
            found = image_size(file.read(SIZE_BYTES))
        if found != size:
            got = "no PNG" if found is None else f"{found[0]} x {found[1]}"
            yield f"'{clip / name}' is {got}, expected {size[0]} x {size[1]}"


if __name__ == "__main__":
    exit_cleanly(main)
