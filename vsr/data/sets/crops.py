"""Random crops of windows of frames: what all sets of training clips share."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from vsr.contracts import DataSpec, Sample, SampleKey
from vsr.data.sets.roots import (
    check_num_frame,
    cropping,
    left_out,
    places_of,
    warn_of_left_out,
)
from vsr.data.sources.base import Crop, FrameStore
from vsr.data.stream.loader import to_unit_range
from vsr.data.stream.sampler import key_from_numpy
from vsr.utils.errors import refuse
from vsr.utils.log import counted

OnBadFrame = Literal["error", "skip"]
GtFrames = Literal["center", "all"]
Starts = Literal["middle", "uniform", "basicsr"]
MOST_SKIPPED = 100  # unreadable draws in a row
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CropOptions:
    """How windows and crops are drawn; see ``REDSDataset`` and ``REDSRecurrentDataset``.

    With ``starts: middle``, the frame of an item is in the middle of the window.
    """

    scale: int
    num_frame: int
    gt_size: int
    intervals: list[int]
    random_reverse: bool
    use_hflip: bool
    use_rot: bool
    on_bad_frame: OnBadFrame
    gt_frames: GtFrames
    starts: Starts = "middle"
    flip_sequence: bool = False

    def __post_init__(self) -> None:
        if self.starts == "middle":
            check_num_frame(self.num_frame)
        mistakes = []
        if self.gt_size < self.scale or self.gt_size % self.scale:
            nearest = max(round(self.gt_size / self.scale), 1) * self.scale
            mistakes.append(f"gt_size {self.gt_size} is not a multiple of scale {self.scale}; nearest: {nearest}")
        if not self.intervals:
            mistakes.append("interval_list is empty; name a distance, [1], or leave it out")
        refuse(mistakes)


def crop_spec(options: CropOptions, list_file: str, has_lq: bool = True) -> DataSpec:
    """Returns what a set of random crops delivers."""
    frames, files = options.num_frame * (2 if options.flip_sequence else 1), (list_file,)
    spec = DataSpec(("train",), num_frames=frames, scale=options.scale, has_lq=has_lq, files=files)
    return spec._replace(gt_frames=options.gt_frames, crop_size=options.gt_size, is_mirrored=options.flip_sequence)


class TrainingClip(NamedTuple):
    """The frames of a clip."""

    name: str  # "000"
    frames: Sequence[str]  # their names, in order
    size: tuple[int, int]  # (h, w) of its GT frames


def check_length(clip: str, num_frames: int, options: CropOptions) -> None:
    """Raises ValueError if a clip is shorter than a window."""
    longest = (options.num_frame - 1) * max(options.intervals) + 1
    if num_frames < longest:
        needs = f"num_frame {options.num_frame} at interval {max(options.intervals)} needs {longest}"
        raise ValueError(f"clip '{clip}' has {num_frames} frames, but {needs}")


class ClipCrops(Dataset[Sample]):
    """Random crops of windows of frames. A subclass's constructor sets ``spec``, finds the clips and calls this one.

    Args:
        lq: None delivers samples without ``lq``, for a degradation to make.
        items: (n, 2); an item is a clip's index and a frame of it, the middle or the first of a window. A window that
            would leave the clip is drawn anew.
    """

    spec = DataSpec(("train",))

    def __init__(
        self, gt: FrameStore, lq: FrameStore | None, clips: list[TrainingClip], items: np.ndarray, options: CropOptions
    ) -> None:
        self.gt, self.lq, self.clips, self.items, self.options = gt, lq, clips, items, options
        for name, _, (h, w) in clips:
            if options.gt_size > min(h, w):
                raise ValueError(f"gt_size {options.gt_size} is larger than the frames of clip '{name}', {h} x {w}")
        roots = dict.fromkeys(f"'{store.root}'" for store in (gt, lq) if store is not None)
        counts = f"{counted(len(self), 'sample')} of {counted(len(clips), 'clip')}, from {' and '.join(roots)}"
        notes = (counts, *cropping({name: size for name, _, size in clips}, options.scale))
        warn_of_left_out(left_out(gt, lq))
        places = places_of((gt, lq), [(clip.name, clip.frames) for clip in clips])
        self.spec = self.spec._replace(clips=places, notes=notes)

    def __len__(self) -> int:
        return len(self.items)

    def resized(self, num_frame: int | None, gt_size: int | None) -> "ClipCrops":
        """Returns the same clips with other training clips and crops: see :class:`vsr.contracts.Resizable`."""
        former, other = self.options, copy.copy(self)
        options = replace(former, num_frame=num_frame or former.num_frame, gt_size=gt_size or former.gt_size)
        for name, frames, _ in self.clips:
            check_length(name, len(frames), options)
        changed = crop_spec(options, "")
        other.spec = self.spec._replace(num_frames=changed.num_frames, crop_size=changed.crop_size)
        ClipCrops.__init__(other, self.gt, self.lq, self.clips, self.items, options)
        return other

    def __getitem__(self, index: int) -> Sample:
        """Returns a sample as float32 tensors in [0, 1]; NumPy's global generator makes its random choices."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of a data set of {len(self)}")
        sample = self.read(index, key_from_numpy())
        for message in sample.pop("passed_over"):
            _log.warning("on_bad_frame: skip: %s", message)
        pixels = {side: torch.from_numpy(sample[side].copy()) for side in ("lq", "gt") if side in sample}
        return {"key": sample["key"], **{side: to_unit_range(tensor) for side, tensor in pixels.items()}}

    def read(self, index: int, key: SampleKey) -> Sample:
        """Returns a sample as it is stored: see :class:`vsr.contracts.Keyed`.

        With ``on_bad_frame: skip``, the next readable draw stands in for an unreadable one.

        Raises:
            ValueError: a frame cannot be decoded, or is not of the clip's size.
            FileNotFoundError: a frame is missing.
        """
        options, passed_over = self.options, []
        while True:
            clip_index, position = self.items[(index + len(passed_over)) % len(self.items)]
            name, frames, (h, w) = self.clips[clip_index]
            rng = np.random.default_rng([key.seed, key.epoch, key.draw + len(passed_over)])  # that of SampleKey
            interval = options.intervals[rng.integers(len(options.intervals))]
            span = (options.num_frame - 1) * interval + 1  # from the first frame to the last
            start, last = position, len(frames) - span
            if options.starts == "middle":
                start -= options.num_frame // 2 * interval
            elif options.starts == "basicsr":  # which counts num_frame · interval frames as the length
                last = max(len(frames) - options.num_frame * interval, 0)
            if options.starts == "uniform" or not 0 <= start <= last:
                start = int(rng.integers(last + 1))
            names = [f"{name}/{frame}" for frame in frames[start : start + span : interval]]
            if options.random_reverse and rng.random() < 0.5:
                names.reverse()
            scale, lq_size = options.scale, options.gt_size // options.scale
            top, left = int(rng.integers(h // scale - lq_size + 1)), int(rng.integers(w // scale - lq_size + 1))
            coins = int(rng.integers(8))
            hflip, vflip = options.use_hflip and coins & 1, options.use_rot and coins & 2
            axes = (0, 3, 2, 1) if options.use_rot and coins & 4 else (0, 3, 1, 2)  # transposed, or not
            turned = np.s_[:, :: -1 if vflip else 1, :: -1 if hflip else 1]
            key_name = names[len(names) // 2]
            sample: Sample = {"key": key_name, "passed_over": passed_over}
            try:
                if self.lq is not None:
                    crop = Crop(top, left, lq_size, lq_size, (h // scale, w // scale))
                    lq = [self.lq.read(frame, crop) for frame in names]
                    sample["lq"] = np.stack(lq + lq[::-1] if options.flip_sequence else lq)[turned].transpose(axes)
                crop = Crop(top * scale, left * scale, options.gt_size, options.gt_size, (h, w))
                gt = [self.gt.read(frame, crop) for frame in (names if options.gt_frames == "all" else [key_name])]
                sample["gt"] = np.stack(gt + gt[::-1] if options.flip_sequence else gt)[turned].transpose(axes)
                return sample  # lq (t, 3, h, w), gt (k, 3, H, W)
            except (ValueError, FileNotFoundError) as error:
                if options.on_bad_frame == "error" or len(passed_over) == MOST_SKIPPED:
                    raise
                passed_over.append(str(error))
