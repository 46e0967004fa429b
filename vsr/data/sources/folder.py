"""Frames as image files in folders."""

import os
from pathlib import Path

import numpy as np

from vsr.data.sources.base import IMAGE_SUFFIXES, Crop, natural_order
from vsr.data.sources.frame_files import image_files, is_image
from vsr.data.sources.images import SIZE_BYTES, decode, image_size, png_crop


class FolderStore:
    """Frames as image files: ROOT/CLIP/FRAME.png. A clip's name may hold slashes, as Vimeo-90K's do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._suffixes = dict.fromkeys((*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES)))  # as an ordered set

    def clips(self) -> list[str]:
        """Returns the folders that hold images, at any depth, sorted."""
        found = []
        for folder, subfolders, files in os.walk(self.root, followlinks=True):
            if _leads_back(folder):
                subfolders.clear()
                continue
            subfolders.sort()
            if any(map(is_image, files)):
                found.append(Path(folder).relative_to(self.root).as_posix())
        return sorted((clip for clip in found if clip != "."), key=natural_order)

    def frames(self, clip: str) -> list[str]:
        """Returns the names of a clip's images without suffix, numbers in numeric order.

        Raises:
            ValueError: two images differ in their suffix only.
        """
        folder = self.root / clip
        if not folder.is_dir():
            return []
        files = [Path(name) for name in image_files(folder)]
        names: dict[str, str] = {}
        for file in sorted(files, key=lambda file: (natural_order(file.stem), file.name)):
            other = names.setdefault(file.stem, file.name)
            if other != file.name:
                raise ValueError(f"'{folder}' holds one frame twice, as {other} and {file.name}; keep one of the files")
        self._suffixes |= dict.fromkeys(file.suffix for file in files)  # .Png
        return list(names)

    def has(self, key: str) -> bool:
        """Returns whether there is a file for this key."""
        return any((self.root / f"{key}{suffix}").is_file() for suffix in self._suffixes)

    def size(self, key: str) -> tuple[int, int]:
        """Returns a frame's height and width; of a PNG or a packed frame, from its first bytes."""
        with self._path(key).open("rb") as file:
            return image_size(file.read(SIZE_BYTES)) or self.read(key).shape[:2]

    def read(self, key: str, crop: Crop | None = None) -> np.ndarray:
        """Returns a frame or a rectangle of it: (h, w, 3) uint8 RGB."""
        path = self.root / f"{key}.png"
        try:
            data = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):  # of another format, or missing
            path = self._path(key)
            data = path.read_bytes()
        part = png_crop(data, crop)
        return decode(data, str(path), crop) if part is None else part

    def _path(self, key: str) -> Path:
        """Returns a frame's file. To list its folder would take 4 ms among 1,000 files, a try takes 2 µs."""
        for suffix in self._suffixes:
            path = self.root / f"{key}{suffix}"
            if path.is_file():
                return path
        raise FileNotFoundError(f"frame '{self.root / key}.png' does not exist")


def _leads_back(folder: str) -> bool:
    """Returns whether a folder is a link to one that contains it."""
    if not os.path.islink(folder):
        return False
    target, place = (os.path.join(os.path.realpath(path), "") for path in (folder, os.path.dirname(folder)))
    return place.startswith(target)
