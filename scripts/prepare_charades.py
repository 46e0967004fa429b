"""Makes frames and lists of Charades from its videos.

    python scripts/prepare_charades.py --root datasets/Charades
    python scripts/prepare_charades.py --root datasets/Charades --max-side 160      # a tenth of the space

    Charades/Charades_v1_480/0A8CF.mp4, ...               from Charades_v1_480.zip
    Charades/Charades_v1_train.csv, Charades_v1_test.csv  from Charades.zip, here or in a folder Charades; optional
    Charades/Charades_v1_480_img/0A8CF/000000.jpg, ...    (written)
    Charades/{train,val,test}_list.csv                    (written)

The data are at https://prior.allenai.org/projects/charades. Without videos, the official frames
(Charades_v1_rgb/0A8CF/0A8CF-000001.jpg, ...) are listed. With the official CSVs, val is the videos of one
training person in twenty and test is the official test set. Without the CSVs, videos are split by a hash of their ID.
A clip's folder gets its name when it is complete; started again, the script continues with the missing clips. Exit
code 2: a video could not be read.
"""

import argparse
import csv
import hashlib
import os
from pathlib import Path

from preparation.arguments import at_least_one, existing_folder
from preparation.extraction import Job, Settings, extract_all, list_entries, write_lists
from vsr.data.lists.clip_lists import ClipEntry
from vsr.data.video.reader import is_video_file
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.locks import sole_preparation
from vsr.utils.log import counted

Annotations = dict[str, tuple[str, str, str]]  # by ID: the part (train, test), the subject, the action
VIDEOS, FRAMES, OFFICIAL_FRAMES = "Charades_v1_480", "Charades_v1_480_img", "Charades_v1_rgb"


def main(arguments: list[str] | None = None) -> int:
    """Extracts what is missing, writes the lists and returns the exit code."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path("datasets/Charades"), help="(default: %(default)s)")
    parser.add_argument("--annotations", type=existing_folder, help="folder of the official CSVs, if elsewhere")
    parser.add_argument("--max-side", type=at_least_one, help="longest side in pixels; larger frames are shrunk")
    parser.add_argument("--accept-short", action="store_true", help="accepts videos shorter than their header says")
    parser.add_argument("--threads", type=at_least_one, default=os.cpu_count() or 1, help="videos at a time")
    parser.add_argument("--dry-run", action="store_true", help="prints the plan and stops")
    options = parser.parse_args(arguments)

    jobs = find_jobs(options.root)
    folders = [options.annotations] if options.annotations else [options.root, options.root / "Charades"]
    annotations = read_annotations(folders)
    if options.annotations and not annotations:
        raise UserError(
            f"--annotations '{options.annotations}' holds no Charades_v1_train.csv and Charades_v1_test.csv"
        )
    with sole_preparation(options.root, not options.dry_run):
        return 2 if prepare(options, jobs, annotations) else 0


def prepare(options: argparse.Namespace, jobs: list[Job], annotations: Annotations) -> list[str]:
    """Extracts what is missing and writes the lists; returns a message for each clip that is not right."""
    settings = Settings(options.threads, options.max_side, options.accept_short, options.dry_run)
    failures = extract_all(jobs, settings)
    if annotations:
        absent = len(annotations.keys() - {job.folder.name for job in jobs})
        print(f"official lists: {len(annotations)} videos, {absent} of them not here; val is 1 training person in 20")
    else:
        print("no Charades_v1_train.csv and Charades_v1_test.csv: 8 of 10 videos train, by the hash of their IDs")
    if not options.dry_run:
        listed, bad = list_entries(jobs, options.root, settings.threads)
        failures += bad
        entries = [annotate(entry, annotations) for entry in listed]
        parts = {name: [e for e in entries if part_of(e, annotations) == name] for name in ("train", "val", "test")}
        write_lists(options.root, parts)
        empty = ", ".join(f"{name}_list.csv" for name, clips in parts.items() if not clips)
        if empty and not annotations:
            print(
                f"note: so few videos leave nothing for {empty}: add videos or the official CSVs, or give list_file a "
                "list of your own (one clip per line, another file name)"
            )
        unlisted = len(entries) - sum(map(len, parts.values()))
        print(f"{counted(len(entries), 'clip')} extracted, {unlisted} of them in no list")
    return failures


def find_jobs(root: Path) -> list[Job]:
    """Returns every clip that has a video, or frames already.

    Raises:
        UserError: there are neither, or two videos of one name.
    """
    videos: dict[str, Path] = {}
    for file in sorted(file for file in (root / VIDEOS).glob("*") if is_video_file(file)):
        if file.stem in videos:
            raise UserError(f"'{videos[file.stem]}' and '{file}' are both clip '{file.stem}'; keep one")
        videos[file.stem] = file
    frames = root / (FRAMES if videos or (root / FRAMES).is_dir() else OFFICIAL_FRAMES)
    clips = [f.name for f in frames.iterdir() if f.is_dir() and not f.name.startswith(".")] if frames.is_dir() else []
    if not videos and not clips:
        raise UserError(f"'{root}' holds neither {VIDEOS}/0A8CF.mp4, ... nor {OFFICIAL_FRAMES}/0A8CF/...jpg")
    return [Job(videos.get(clip, root / VIDEOS / f"{clip}.mp4"), frames / clip) for clip in sorted({*videos, *clips})]


def read_annotations(folders: list[Path]) -> Annotations:
    """Returns what the official CSVs say; nothing where they are not.

    Raises:
        UserError: only one of them is there, it is another file, or damaged.
    """
    files = {part: [f / f"Charades_v1_{part}.csv" for f in folders] for part in ("train", "test")}
    found = {part: next((file for file in options if file.is_file()), None) for part, options in files.items()}
    if not any(found.values()):
        return {}
    annotations: Annotations = {}
    for part, file in found.items():
        if file is None:
            raise UserError(f"'{files[part][0]}' is missing, but the other official CSV is there; take both or neither")
        try:
            read_official(file, part, annotations)
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"'{file}' is damaged, or no CSV in UTF-8 ({error}); download it again") from None
    return annotations


def read_official(file: Path, part: str, annotations: Annotations) -> None:
    """Adds what one of the official CSVs says to ``annotations``."""
    with file.open(encoding="utf-8-sig", newline="") as table:
        reader = csv.DictReader(table)
        if not {"id", "subject", "actions"} <= set(reader.fieldnames or ()):
            raise UserError(f"'{file}' has no columns id, subject and actions: not the official CSV")
        for row in reader:
            if row["id"] in annotations:
                raise UserError(f"'{file}', line {reader.line_num}: video '{row['id']}' is in the CSVs twice")
            annotations[row["id"]] = part, row["subject"] or "", longest_action(row["actions"] or "")


def longest_action(actions: str) -> str:
    """Returns the class that goes on longest of "c092 11.90 21.20;c147 0.00 12.60": c147."""
    spans = [action.split() for action in actions.split(";") if action.strip()]
    try:
        return max(spans, key=lambda span: float(span[2]) - float(span[1]))[0] if spans else ""
    except (IndexError, ValueError):
        raise UserError(f"'{actions[:80]}' in the official CSV is no list of actions 'c092 11.90 21.20;...'") from None


def annotate(entry: ClipEntry, annotations: Annotations) -> ClipEntry:
    """Returns an entry with subject and action."""
    _, subject, action = annotations.get(entry.clip, ("", "", ""))
    return entry._replace(subject=subject, action=action)


def part_of(entry: ClipEntry, annotations: Annotations) -> str | None:
    """Returns the list that a clip belongs to, None for a clip that the official CSVs do not know."""
    if not annotations:
        return {0: "test", 1: "val"}.get(hash_of(entry.clip) % 10, "train")
    part = annotations.get(entry.clip, (None,))[0]
    return "val" if part == "train" and hash_of(entry.subject) % 20 == 0 else part


def hash_of(text: str) -> int:
    """Returns a number that is the same everywhere and always."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


if __name__ == "__main__":
    exit_cleanly(main)
