"""Makes frames and lists of HumanEva-I from its videos.

    python scripts/prepare_humaneva.py --root datasets/HumanEva                     # video/S1/Box_1_(C1).avi, ...
    python scripts/prepare_humaneva.py --root datasets/HumanEva --from HumanEva_I   # S1/Image_Data/Box_1_(C1).avi, ...

    HumanEva/video/S1/Box_1_(C1).avi                with --from, links to the official files
    HumanEva/image/S1_Box_1_(C1)/000000.jpg, ...
    HumanEva/train_list.csv                         trial 1 of S1 and S2
    HumanEva/val_list.csv                           trial 1 of S3
    HumanEva/test_list.csv                          trial 2 of S1 to S3, with --with-s4 of S4 too

The data are at http://humaneva.is.tue.mpg.de (registration). The lists take the colour cameras and whole clips: the
official halves of trial 1 are shorter than a window of 12 frames at interval 50. A clip's folder gets its name when it
is complete; started again, the script continues with the missing clips. Exit code 2: a video could not be read.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from preparation.arguments import at_least_one
from preparation.extraction import Job, Settings, extract_all, list_entries, write_lists
from vsr.data.lists.clip_lists import ClipEntry, clip_of_video, entry_of
from vsr.data.video.reader import is_video_file
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.locks import sole_preparation
from vsr.utils.log import counted

# By trial and subject: whole clips, no clip and, but for the actors themselves, nothing of a trial in two lists.
PARTS = {("1", "S1"): "train", ("1", "S2"): "train", ("1", "S3"): "val"} | {("2", f"S{n}"): "test" for n in (1, 2, 3)}


def main(arguments: list[str] | None = None) -> int:
    """Extracts what is missing, writes the lists and returns the exit code."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path("datasets/HumanEva"), help="(default: %(default)s)")
    parser.add_argument("--from", dest="source", type=Path, help="folder of the official distribution")
    parser.add_argument(
        "--cameras", nargs="+", default=["C1", "C2", "C3"], help="(default: C1 C2 C3; grey: BW1 to BW4)"
    )
    parser.add_argument("--with-s4", action="store_true", help="adds trial 2 of subject S4 to the test list")
    parser.add_argument("--max-side", type=at_least_one, help="longest side in pixels; larger frames are shrunk")
    parser.add_argument("--accept-short", action="store_true", help="accepts videos shorter than their header says")
    parser.add_argument("--threads", type=at_least_one, default=os.cpu_count() or 1, help="videos at a time")
    parser.add_argument("--dry-run", action="store_true", help="prints the plan and stops")
    options = parser.parse_args(arguments)

    with sole_preparation(options.root, not options.dry_run):
        return 2 if prepare(options) else 0


def prepare(options: argparse.Namespace) -> list[str]:
    """Extracts what is missing and writes the lists; returns a message for each clip that is not right."""
    jobs = find_jobs(options.root, options.source, options.dry_run)
    jobs = [job for job in jobs if entry_of(job.folder.name).camera in ("", *options.cameras)]
    if not jobs:
        raise UserError(
            f"'{options.root / 'video'}' holds no videos S1/Box_1_(C1).avi, ... of the cameras "
            f"{' '.join(options.cameras)}; put them there, or name the official folders with --from"
        )
    settings = Settings(options.threads, options.max_side, options.accept_short, options.dry_run)
    failures = extract_all(jobs, settings)
    if not options.dry_run:
        entries, bad = list_entries(jobs, options.root, settings.threads)
        failures += bad
        parts = {part: [e for e in entries if part_of(e, options.with_s4) == part] for part in ("train", "val", "test")}
        write_lists(options.root, parts)
        unlisted = len(entries) - sum(map(len, parts.values()))
        print(f"{counted(len(entries), 'clip')} extracted, {unlisted} of them in no list")
        if entries and unlisted == len(entries):
            print(
                "note: the lists take only clips named as S1_Box_1_(C1) (see --help): for others, give list_file a "
                f"list of your own, a text file with one folder's name per line, such as {entries[0].clip}"
            )
    return failures


def part_of(entry: ClipEntry, with_s4: bool) -> str | None:
    """Returns the list that a clip belongs to in the default split, None if to none."""
    if with_s4 and (entry.trial, entry.subject) == ("2", "S4"):
        return "test"
    return PARTS.get((entry.trial, entry.subject))


def find_jobs(root: Path, source: Path | None, dry_run: bool) -> list[Job]:
    """Returns every clip that has a video, or frames already; official videos are linked into ``root``/video."""
    videos: dict[str, Path] = {}
    for file in find_videos(root / "video"):
        clip = clip_of_video(f"video/{file.relative_to(root / 'video').as_posix()}")
        if clip in videos:
            raise UserError(f"'{videos[clip]}' and '{file}' are both clip '{clip}'; keep one")
        videos[clip] = file
    if source is not None:
        official = [file for file in find_videos(source) if file.parent.name == "Image_Data"]
        if not official:
            raise UserError(f"--from '{source}' holds no videos S1/Image_Data/Box_1_(C1).avi, ...")
        for file in official:
            link = root / "video" / file.parents[1].name / file.name
            if not (dry_run or link.exists()):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)  # one whose file has gone
                link.symlink_to(file.resolve())
            videos[clip_of_video(str(file))] = file if dry_run else link
    image = root / "image"
    folders = [f.name for f in image.iterdir() if f.is_dir() and not f.name.startswith(".")] if image.is_dir() else []
    return [Job(videos.get(clip, root / "video" / clip), image / clip) for clip in sorted({*videos, *folders})]


def find_videos(folder: Path) -> Iterator[Path]:
    """Yields the videos at any depth, sorted."""
    yield from (file for file in sorted(folder.rglob("*")) if is_video_file(file))


if __name__ == "__main__":
    exit_cleanly(main)
