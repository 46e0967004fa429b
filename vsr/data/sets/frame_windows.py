"""Windows of equally spaced frames from listed clips, for predicting the frame after the current one.

A window is ``input_size`` past frames (the sentences), the current frame (the query) and the frame after it, all
``interval`` apart: (input_size + 1) * interval + 1 frames of a clip from first to last.
"""

import logging
import os
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vsr.contracts import DataSpec, Sample, SampleKey, TestType
from vsr.data.lists.clip_lists import ClipEntry, read_beside
from vsr.data.sets.flow import MIN_SIDE, FlowCache
from vsr.data.sets.roots import gap_of, warn_of_left_out
from vsr.data.sources.base import root_path
from vsr.data.sources.frame_cache import FrameCache
from vsr.data.sources.frame_files import ClipFrames, image_files, list_frames, read_frames
from vsr.data.stream.loader import to_planes
from vsr.data.stream.sampler import key_from_numpy
from vsr.registry import Positive

_log = logging.getLogger(__name__)


class Segment(NamedTuple):
    """The part of a clip that a list names, and its windows. Positions count from the clip's first frame."""

    entry: ClipEntry
    frames: ClipFrames
    start: int
    length: int
    interval: int  # the largest: frame_interval, or less in a clip that was shrunk
    num_windows: int


def reach(input_size: int, interval: int) -> int:
    """Returns the distance from the first frame of a window to its last."""
    return (input_size + 1) * interval


def count_windows(length: int, input_size: int, interval: int, step: int) -> int:
    """Returns how many windows, ``step`` frames apart, lie inside ``length`` frames."""
    room = length - 1 - reach(input_size, interval)
    return 0 if room < 0 else room // step + 1


def window_positions(query: int, input_size: int, interval: int) -> list[int]:
    """Returns the frames of a window: past frames, oldest first, then the query, then the frame after it."""
    return [query + interval * offset for offset in range(-input_size, 2)]


class FrameWindows(Dataset[Sample]):
    """The windows of the clips in a list, as samples; options and samples are ``HumanEvaDataset``'s.

    A registered subclass has the class attributes ``subfolders``, where the clips' folders are in ``dataroot``: the
    first that exists, else ``dataroot`` itself; and ``remedy``, which says how to get the data.
    """

    subfolders: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = ""

    def __init__(
        self,
        dataroot: str,
        list_file: str,
        input_size: Positive = 10,
        frame_interval: Positive = 50,
        random_interval: bool = False,
        width: Positive = 64,
        height: Positive = 64,
        test_type: TestType = "nextframe",
        short_clip: Literal["skip", "shrink"] = "skip",
        window_step: Positive = 1,
        flow_cache: str | None = None,
        frame_cache: str | None = None,
        max_windows: Positive | None = None,
    ) -> None:
        if test_type == "opticalflow" and min(width, height) < MIN_SIDE:
            raise ValueError(f"test_type opticalflow needs width and height of at least {MIN_SIDE}")
        self.input_size, self.frame_interval, self.window_step = input_size, frame_interval, window_step
        self.random_interval, self.test_type, self.short_clip = random_interval, test_type, short_clip
        self._size = height, width
        phases = ("train",) if random_interval else ("train", "test")
        self.spec = DataSpec(
            phases, "next-frame", input_size, test_type=test_type, frame_size=self._size, files=(list_file,)
        )
        data_folder = root_path("dataroot", dataroot)
        if not data_folder.is_dir():
            raise FileNotFoundError(f"dataroot: folder '{data_folder}' does not exist. {self.remedy}")
        found = (data_folder / name for name in self.subfolders if (data_folder / name).is_dir())
        root = next(found, data_folder)
        entries = read_beside(list_file)
        is_only = len({entry.clip for entry in entries}) == 1
        clips = {entry.clip: self._find_clip(root, entry.clip, list_file, is_only) for entry in entries}
        segments = [self._segment(entry, clips[entry.clip], list_file) for entry in entries]
        self._report(segments, list_file)
        self._check_frames(segments)
        self.segments = [segment for segment in segments if segment.num_windows]
        self._first_window = np.cumsum([0, *(segment.num_windows for segment in self.segments)])  # of each segment
        self._num_windows = min(int(self._first_window[-1]), max_windows or int(self._first_window[-1]))
        self._flows = FlowCache(root_path("flow_cache", flow_cache) if flow_cache else data_folder / "flow")
        self._frames = FrameCache(root_path("frame_cache", frame_cache), self._size, clips) if frame_cache else None

    def __len__(self) -> int:
        return self._num_windows

    def __getitem__(self, index: int) -> Sample:
        """Returns a sample as tensors; NumPy's global generator draws a random interval."""
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of a data set of {len(self)}")
        return self.read(index, key_from_numpy() if self.random_interval else SampleKey(index))

    def read(self, index: int, key: SampleKey) -> Sample:
        """Returns a sample; see :class:`vsr.contracts.Keyed`."""
        segment, query = self._place(index)
        interval = segment.interval
        if self.random_interval:
            interval = int(key.rng().integers(1, interval + 1))
        positions = window_positions(query, self.input_size, interval)
        clip, files = segment.entry.clip, segment.frames.files(positions)
        if self._frames is not None:
            frames = self._frames.read(clip, positions)  # (t + 2, h, w, 3)
        else:
            frames = np.stack(list(read_frames(files, self._size)))
        planes, stem = to_planes(frames), files[-2].stem
        return {
            "sentences": planes[:-2],
            "query": planes[-2],
            "next": planes[-1],
            "target": self._target(planes, frames, f"{clip}/{stem}-{files[-1].stem}"),
            "key": f"{clip}/{stem}",
            "clip": clip,
            "action": segment.entry.action,
            "camera": segment.entry.camera,
        }

    def _place(self, item: int) -> tuple[Segment, int]:
        """Returns the part of a clip in which a window lies, and the position of its query.

        The query is where it is at the largest interval; a smaller interval draws the other frames towards it.
        """
        window = item * int(self._first_window[-1]) // len(self)  # max_windows of them, evenly spread
        index = int(np.searchsorted(self._first_window, window, side="right")) - 1
        segment = self.segments[index]
        first = segment.start + (window - int(self._first_window[index])) * self.window_step
        return segment, first + self.input_size * segment.interval

    def _target(self, planes: Tensor, frames: np.ndarray, name: str) -> Tensor:
        if self.test_type == "nextframe":
            return planes[-1]
        if self.test_type == "subtract":
            return (planes[-1].float() - planes[-2].float()) / 255
        return torch.from_numpy(self._flows.read(target=frames[-1], source=frames[-2], name=name))

    def _find_clip(self, root: Path, clip: str, list_file: str, is_only: bool) -> ClipFrames:
        try:
            is_flat = not (root / clip).is_dir() and image_files(root)[0] and is_only
            return list_frames(root if is_flat else root / clip)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"'{list_file}' names clip '{clip}', but {error}. {self.remedy}") from None

    def _segment(self, entry: ClipEntry, frames: ClipFrames, list_file: str) -> Segment:
        num_frames = len(frames.names)
        promised = max(entry.end or 0, entry.num_frames or 0, entry.start + 1)
        if num_frames < promised:
            raise ValueError(
                f"'{list_file}' uses or counts {promised} frames of clip '{entry.clip}', but '{frames.folder}' holds "
                f"{num_frames}; correct the list, or remove that folder and prepare it again"
            )
        length, interval = (entry.end or num_frames) - entry.start, self.frame_interval
        if self.short_clip == "shrink":
            interval = min(interval, (length - 1) // (self.input_size + 1))
        num_windows = count_windows(length, self.input_size, interval, self.window_step) if interval else 0
        return Segment(entry, frames, entry.start, length, interval, num_windows)

    def _check_frames(self, segments: list[Segment]) -> None:
        """Warns of files and frame numbers that are missing from clips, and adds the clips to ``spec``."""
        parts: dict[str, list[range]] = {}
        for entry, frames, start, length, *_ in segments:
            parts.setdefault(os.path.realpath(frames.folder), []).append(range(start, start + length))
            if (gap := gap_of(entry.clip, frames.stems(start, start + length), frames.folder)) is not None:
                _log.warning("%s: windows pass over it", gap)
                self.spec = self.spec._replace(gap=self.spec.gap or gap)
        self.spec = self.spec._replace(clips=parts)
        warn_of_left_out({str(path) for segment in segments for path in segment.frames.left_out})

    def _report(self, segments: list[Segment], list_file: str) -> None:
        """Adds to ``spec`` how many clips are too short; raises if none holds a window."""
        needed = reach(self.input_size, self.frame_interval) + 1
        too_short = [segment for segment in segments if segment.length < needed]
        dropped = sum(not segment.num_windows for segment in too_short)
        if dropped == len(segments):
            longest = max(segments, key=lambda segment: segment.length)
            largest = (longest.length - 1) // (self.input_size + 1)
            remedy = f"it needs at least {self.input_size + 2} frames: set input_size lower"
            raise ValueError(
                f"no clip of '{list_file}' holds a window: input_size {self.input_size} at frame_interval "
                f"{self.frame_interval} needs {needed} frames, the longest of {len(segments)}, '{longest.entry.clip}', "
                f"has {longest.length}; {f'set frame_interval to {largest} or less' if largest else remedy}"
            )
        if too_short:
            text = (
                f"{len(too_short)} are shorter than the {needed} frames of a window at interval {self.frame_interval}: "
                f"{dropped} left out, {len(too_short) - dropped} read at the largest interval that fits"
            )
            note = f"{list_file}: of {len(segments)} clips, {text} (short_clip: {self.short_clip})"
            self.spec = self.spec._replace(notes=(*self.spec.notes, note))
