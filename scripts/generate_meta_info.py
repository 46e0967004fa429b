"""Writes clip lists, lines ``CLIP FRAMES (HEIGHT,WIDTH,CHANNELS)``, and the first frame's number where it is not 0.

python scripts/generate_meta_info.py                                   # the REDS lists, into meta_info/
python scripts/generate_meta_info.py --from FOLDER --to my_meta.txt    # any folder of clips, GT side
python scripts/generate_meta_info.py --from FOLDER --to FILE --first 10   # the first 10 frames of each clip
"""

import argparse
import os
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from preparation.arguments import at_least_one, existing_file, open_any
from preparation.meta_info import write_meta_info
from vsr.data.lists.meta_info import ClipInfo, read_text
from vsr.data.sets.roots import gap_of, left_out, warn_of_left_out
from vsr.data.sources.base import FrameStore, with_missing
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.log import counted

VIMEO_SHAPE = (256, 448, 3)  # Xue et al., IJCV 2019; every septuplet
# REDS (Nah et al., CVPRW 2019): 240 training clips 000-239, and 30 validation clips that regrouping names 240-269.
REDS_SHAPE = (720, 1280, 3)
REDS_LISTS = {  # file: (clips, frames of each)
    "meta_info_REDS_GT.txt": (range(270), 100),
    "meta_info_REDS4_test_GT.txt": ((0, 11, 15, 20), 100),
    "meta_info_REDS4_test10_GT.txt": ((0, 11, 15, 20), 10),
    "meta_info_REDSofficial4_test_GT.txt": ((240, 241, 246, 257), 100),
    "meta_info_REDSval_official_test_GT.txt": (range(240, 270), 100),
}


def main(arguments: list[str] | None = None) -> None:
    """Writes what the command line asks for."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    of_what = parser.add_mutually_exclusive_group()
    of_what.add_argument("--from", dest="source", type=Path, help="folder of clips or LMDB; without it, the REDS lists")
    of_what.add_argument("--vimeo", type=existing_file, metavar="LIST", help="sep_trainlist.txt or sep_testlist.txt")
    parser.add_argument("--to", type=Path, help="file to write; for the REDS lists a folder (default: meta_info)")
    parser.add_argument("--first", type=at_least_one, help="list at most so many frames of each clip")
    parser.add_argument(
        "--threads", type=at_least_one, default=os.cpu_count() or 1, help="folders looked into at a time"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the lines instead of writing them")
    options = parser.parse_args(arguments)
    if options.source is None and options.first is not None:
        parser.error("--first needs --from: the other lists are fixed")
    if (options.source or options.vimeo) and options.to is None and not options.dry_run:
        parser.error("--from and --vimeo need --to FILE (or --dry-run)")
    if (options.source or options.vimeo) and options.to is not None and options.to.is_dir():
        parser.error(f"--to '{options.to}' is a folder; name the file to write")
    try:
        if options.vimeo is not None:
            lists = {options.to: vimeo_clips(options.vimeo)}
        elif options.source is None:
            lists = {(options.to or Path("meta_info")) / name: reds_clips(*REDS_LISTS[name]) for name in REDS_LISTS}
        else:
            lists = {options.to: folder_clips(options.source, options.first, options.threads)}
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from None
    for path, clips in lists.items():
        if options.dry_run:
            print("\n".join(clip.line() for clip in clips))
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        write_meta_info(path, clips)
        print(f"{path}: {counted(len(clips), 'clip')}, {counted(sum(clip.num_frames for clip in clips), 'frame')}")


def reds_clips(numbers: range | tuple[int, ...], num_frames: int) -> list[ClipInfo]:
    """Returns the lines of a REDS list."""
    return [ClipInfo(f"{number:03d}", num_frames, REDS_SHAPE) for number in numbers]


def vimeo_clips(file: Path) -> list[ClipInfo]:
    """Returns the lines of one of Vimeo-90K's lists, which hold names like 00001/0001."""
    names = read_text(file).split()
    if not names:
        raise ValueError(f"'{file}' lists nothing")
    wrong = next((name for name in names if not re.fullmatch(r"\d+/\d+", name, re.ASCII)), None)
    if wrong is not None:
        raise ValueError(f"'{file}' is not a list of Vimeo-90K: expected names like 00001/0001, got '{wrong[:80]}'")
    return [ClipInfo(name, 7, VIMEO_SHAPE) for name in names]


def folder_clips(folder: Path, first: int | None = None, threads: int = 1) -> list[ClipInfo]:
    """Returns one line per folder of images below ``folder``, with the size of its first frame.

    Args:
        folder: root of the GT clips.
        first: list at most so many frames of each clip.
        threads: folders looked into at a time.

    Raises:
        ValueError: no clips, or a clip's name holds a space, which the format cannot express.
        FileNotFoundError: there is no such folder.
    """
    store = open_any(folder)
    names = store.clips()
    if not names:
        warn_of_left_out(left_out(store))
        raise ValueError(f"'{folder}' holds no images, and no folders of images")
    with ThreadPoolExecutor(threads) as pool:
        lines = list(tqdm(pool.map(lambda name: clip_info(store, name, first), names), total=len(names), unit="clip"))
    warn_of_left_out(left_out(store))
    return lines


def clip_info(store: FrameStore, name: str, first: int | None) -> ClipInfo:
    """Returns the line of one clip; of one whose numbers have gaps, its longest part, since training takes no gaps."""
    if any(character.isspace() for character in name):
        raise ValueError(
            f"clip '{name}' in '{store.root}': a meta file separates its columns by spaces; rename the folder"
        )
    frames = store.frames(name)
    present = set(frames).__contains__
    runs = [list(run) for is_present, run in groupby(with_missing(frames), present) if is_present]
    run = max(runs, key=len)  # of several, the first
    if len(runs) > 1:
        tqdm.write(f"{gap_of(name, frames, store.root)}: its line lists {run[0]} to {run[-1]}, its longest part")
    is_reds = re.fullmatch(r"[0-9]{8}", run[0])  # whose readers take the first frame for 0
    start = int(re.search(r"[0-9]*$", run[0])[0]) if is_reds or run is not runs[0] else 0
    return ClipInfo(name, len(run[:first]), (*store.size(f"{name}/{run[0]}"), 3), start)


if __name__ == "__main__":
    exit_cleanly(main)
