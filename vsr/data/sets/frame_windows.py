"""Windows of equally spaced frames from listed clips, for predicting the frame after the current one.

A window is ``input_size`` past frames (the sentences), the current frame (the query) and the frame after it, all
``interval`` apart: (input_size + 1) * interval + 1 frames of a clip from first to last.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vsr.contracts import DataSpec, Sample, SampleKey, TestType
from vsr.data.lists.clip_lists import ClipEntry, read_beside
from vsr.data.sets.flow import MIN_SIDE, FlowCache
from vsr.data.sources.base import root_path
from vsr.data.sources.frame_cache import ClipFrames, FrameCache
from vsr.data.sources.frame_files import list_frames, read_frames
from vsr.data.stream.loader import to_planes
from vsr.data.stream.sampler import key_from_numpy
from vsr.registry import Positive

ShortClip = Literal["skip", "shrink"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WindowOptions:
    """What a window is and where windows start; see ``HumanEvaDataset``."""

    input_size: int
    frame_interval: int
    random_interval: bool
    width: int
    height: int
    test_type: TestType
    short_clip: ShortClip
    window_step: int
    max_windows: int | None

    def __post_init__(self) -> None:
        if self.test_type == "opticalflow" and min(self.width, self.height) < MIN_SIDE:
            raise ValueError(f"test_type opticalflow needs width and height of at least {MIN_SIDE}")


class Segment(NamedTuple):
    """The part of a clip that a list names, and its windows. Positions count from the clip's first frame."""

    entry: ClipEntry
    frames: ClipFrames
    start: int
    end: int  # exclusive
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
        short_clip: ShortClip = "skip",
        window_step: Positive = 1,
        flow_cache: str | None = None,
        frame_cache: str | None = None,
        max_windows: Positive | None = None,
    ) -> None:
        self.options = options = WindowOptions(
            input_size, frame_interval, random_interval, width, height, test_type, short_clip, window_step, max_windows
        )
        self.test_type, self.input_size = test_type, input_size
        self.spec = DataSpec(
            phases=("train",) if random_interval else ("train", "test"),
            task="next-frame",
            num_frames=input_size,
            test_type=test_type,
            frame_size=(height, width),
            files=(list_file,),
        )
        data_folder = root_path("dataroot", dataroot)
        root = _find_root(data_folder, self.subfolders, self.remedy)
        entries = read_beside(list_file)
        clips = {entry.clip: _find_clip(root, entry.clip, list_file, self.remedy) for entry in entries}
        segments = [_segment(entry, clips[entry.clip], options, list_file) for entry in entries]
        self.segments = [segment for segment in segments if segment.num_windows]
        self._report(segments, list_file)
        self._first_window = np.cumsum([0, *(segment.num_windows for segment in self.segments)])  # of each segment
        self._size = height, width
        self._flows = FlowCache(root_path("flow_cache", flow_cache) if flow_cache else data_folder / "flow")
        self._frames = FrameCache(root_path("frame_cache", frame_cache), self._size, clips) if frame_cache else None

    def __len__(self) -> int:
        """Returns the number of windows."""
        total = int(self._first_window[-1])
        return min(total, self.options.max_windows or total)

    def __getitem__(self, index: int) -> Sample:
        """Returns a sample as tensors; NumPy's global generator draws a random interval."""
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of a data set of {len(self)}")
        return self.read(index, key_from_numpy() if self.options.random_interval else SampleKey(index))

    def read(self, index: int, key: SampleKey) -> Sample:
        """Returns a sample; see :class:`vsr.contracts.Keyed`."""
        segment, query = self.place(index)
        interval = segment.interval
        if self.options.random_interval:
            interval = int(key.rng().integers(1, interval + 1))
        positions = window_positions(query, self.options.input_size, interval)
        frames = self._read(segment, positions)  # (t + 2, h, w, 3)
        stems = [file.stem for file in segment.frames.files(positions[-2:])]
        planes = to_planes(frames)
        return {
            "sentences": planes[:-2],
            "query": planes[-2],
            "next": planes[-1],
            "target": self._target(planes, frames, f"{segment.entry.clip}/{stems[0]}-{stems[1]}"),
            "key": f"{segment.entry.clip}/{stems[0]}",
            "clip": segment.entry.clip,
            "action": segment.entry.action,
            "camera": segment.entry.camera,
        }

    def place(self, item: int) -> tuple[Segment, int]:
        """Returns the part of a clip in which a window lies, and the position of its query.

        The query is where it is at the largest interval; a smaller interval draws the other frames towards it.
        """
        window = item * int(self._first_window[-1]) // len(self)  # max_windows of them, evenly spread
        index = int(np.searchsorted(self._first_window, window, side="right")) - 1
        segment = self.segments[index]
        first = segment.start + (window - int(self._first_window[index])) * self.options.window_step
        return segment, first + self.options.input_size * segment.interval

    def _read(self, segment: Segment, positions: Sequence[int]) -> np.ndarray:
        if self._frames is not None:
            return self._frames.read(segment.entry.clip, positions)
        return np.stack(list(read_frames(segment.frames.files(positions), self._size)))

    def _target(self, planes: Tensor, frames: np.ndarray, name: str) -> Tensor:
        if self.options.test_type == "nextframe":
            return planes[-1]
        if self.options.test_type == "subtract":
            return (planes[-1].float() - planes[-2].float()) / 255
        return torch.from_numpy(self._flows.read(target=frames[-1], source=frames[-2], name=name))

    def _report(self, segments: list[Segment], list_file: str) -> None:
        """Logs what became of clips that are too short; raises if nothing is left."""
        wanted = self.options.frame_interval
        needed = reach(self.options.input_size, wanted) + 1
        too_short = [segment for segment in segments if segment.end - segment.start < needed]
        dropped = [segment for segment in too_short if not segment.num_windows]
        if not self.segments:
            longest = max(segments, key=lambda segment: segment.end - segment.start)
            length = longest.end - longest.start
            largest = (length - 1) // (self.options.input_size + 1)
            remedy = (
                f"set frame_interval to {largest} or less"
                if largest
                else f"it needs at least {self.options.input_size + 2} frames: set input_size lower"
            )
            raise ValueError(
                f"no clip of '{list_file}' holds a window: input_size {self.options.input_size} at frame_interval "
                f"{wanted} needs {needed} frames, the longest of {len(segments)}, '{longest.entry.clip}', has "
                f"{length}; {remedy}"
            )
        if too_short:
            shrunk = len(too_short) - len(dropped)
            _log.info(
                "%s: of %d clips, %d are shorter than the %d frames of a window at interval %d: %d left out, %d read "
                "at the largest interval that fits (short_clip: %s)",
                list_file, len(segments), len(too_short), needed, wanted, len(dropped), shrunk, self.options.short_clip,
            )  # fmt: skip


def _find_root(dataroot: Path, subfolders: tuple[str, ...], remedy: str) -> Path:
    if not dataroot.is_dir():
        raise FileNotFoundError(f"dataroot: folder '{dataroot}' does not exist. {remedy}")
    return next((dataroot / name for name in subfolders if (dataroot / name).is_dir()), dataroot)


def _find_clip(root: Path, clip: str, list_file: str, remedy: str) -> ClipFrames:
    try:
        return ClipFrames(root / clip, list_frames(root / clip))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"'{list_file}' names clip '{clip}', but {error}. {remedy}") from None


def _segment(entry: ClipEntry, frames: ClipFrames, options: WindowOptions, list_file: str) -> Segment:
    num_frames = len(frames.names)
    promised = max(entry.end or 0, entry.num_frames or 0, entry.start + 1)
    if num_frames < promised:
        raise ValueError(
            f"'{list_file}' uses or counts {promised} frames of clip '{entry.clip}', but '{frames.folder}' holds "
            f"{num_frames}; correct the list, or remove that folder and prepare it again"
        )
    end = num_frames if entry.end is None else entry.end
    length, interval = end - entry.start, options.frame_interval
    if options.short_clip == "shrink":
        interval = min(interval, (length - 1) // (options.input_size + 1))
    num_windows = count_windows(length, options.input_size, interval, options.window_step) if interval else 0
    return Segment(entry, frames, entry.start, end, interval, num_windows)
