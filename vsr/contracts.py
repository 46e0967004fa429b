"""The contracts between the parts, as data.

A network has a :class:`Spec` as its attribute ``spec``, a data set a :class:`DataSpec`. The loader, the checks of an
options file, restoration, costs and tables read these records and nothing else; :func:`mismatches` compares the two.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Subset

Task = Literal["super-resolution", "next-frame"]
Reads = Literal["window", "clip"]
Precision = Literal["float32", "bf16", "fp16", "auto"]  # of restoration
Padding = Literal["replicate", "reflection", "reflection_circle", "circle"]
TestType = Literal["nextframe", "subtract", "opticalflow"]


class Spec(NamedTuple):
    """The input and output of a network; every registered network sets it as ``self.spec`` in its constructor.

    Args:
        reads: ``window``: (b, num_frames, 3, h, w), and returns the middle frame restored, (b, 3, scale·h, scale·w).
            ``clip``: (b, t, 3, h, w) of any length, and returns every frame, (b, t, 3, scale·h, scale·w). A next-frame
            network is called with (query, sentences) instead; see FramePredictor.
        num_frames: length of the window, odd; None for a network of clips, or one that reads windows of any length.
        scale: output size / input size.
        multiple: height and width of the input have to be multiples of it; restoration pads and crops.
        min_size: smallest height and width of the input; restoration pads and crops.
        center: of a window, the index of the frame that is restored; None is the middle, the frame with ground truth in
            all our data sets.
        task: super-resolution or next-frame prediction.
        test_type: of a next-frame network, its output.
        frame_size: of a next-frame network, height and width of the training frames.
        map_size: of a network with a memory, height and width of the feature maps that it was made for.
        pixels_per_position: of such a network, pixels of ground truth per position of these maps.
        is_fixed_to_map: whether such a network can read maps of no other size.
        min_frames: frames of the shortest clip that a network of clips reads.
    """

    reads: Reads = "window"
    num_frames: int | None = None
    scale: int = 1
    multiple: int = 1
    min_size: int = 1
    center: int | None = None
    task: Task = "super-resolution"
    test_type: TestType | None = None
    frame_size: tuple[int, int] | None = None
    map_size: tuple[int, int] | None = None
    pixels_per_position: int = 1
    is_fixed_to_map: bool = False
    min_frames: int = 1


class DataSpec(NamedTuple):
    """The samples or clips of a data set; ours set it as ``self.spec`` in their constructors. None is unknown.

    Set before folders are opened, it lets ``--check`` compare it where they do not exist.

    Args:
        phases: ``train``, ``test``, or both.
        task: see Spec.
        num_frames: frames of a window, or of a training clip.
        scale: GT size / LQ size.
        gt_frames: of a training sample, the frames with ground truth: the ``center``, or ``all``.
        crop_size: side of a training sample's GT, in pixels.
        is_mirrored: whether the second half of a training clip is the first half in reverse order.
        has_gt: whether there is ground truth.
        has_lq: whether there are LQ frames; else a degradation has to make them.
        test_type: of next-frame data, the kind of target.
        frame_size: of next-frame data, height and width.
        degradation: how the LQ frames were made, "BD x4", where it is known.
        files: lists of the set's clips; a change of their content is a change of the set.
        clips: by the folder of a clip, the ranges of frames that are used; sets that share frames are warned of.
        notes: remarks for the log.
        gap: a clip whose frame numbers have a gap, as a message; training refuses it.
    """

    phases: tuple[Literal["train", "test"], ...] = ("train", "test")
    task: Task = "super-resolution"
    num_frames: int | None = None
    scale: int | None = None
    gt_frames: Literal["center", "all"] | None = None
    crop_size: int | None = None
    is_mirrored: bool = False
    has_gt: bool = True
    has_lq: bool = True
    test_type: TestType | None = None
    frame_size: tuple[int, int] | None = None
    degradation: str | None = None
    files: tuple[str, ...] = ()
    clips: Mapping[str, Sequence[range]] = {}
    notes: tuple[str, ...] = ()
    gap: str | None = None


class SampleKey(NamedTuple):
    """One draw of a training sample; all its random choices follow from these three numbers.

    Workers, processes and resumed runs therefore see the same sample for the same key, with nothing to seed.
    """

    draw: int  # position in the enlarged data set; the item is draw % len(dataset)
    epoch: int = 0
    seed: int = 0

    def rng(self) -> np.random.Generator:
        """Returns the generator of every random choice of this sample."""
        return np.random.default_rng([self.seed, self.epoch, self.draw])


# The value of a training set's `dataset[index]`; any map-style data set of PyTorch's is a training set. For
# super-resolution: `lq` (t, 3, h, w) and `gt` (k, 3, scale·h, scale·w), uint8 in [0, 255] or floats in [0, 1], RGB,
# k = 1 (the middle frame) or t (all), and `key`, a text that names the sample. Random choices come from the global
# generators of Python, NumPy or PyTorch, which the loader seeds, or from the sample's key, see Keyed.
Sample = dict[str, Any]


@runtime_checkable
class HasSpec(Protocol):
    """A network, whose ``spec`` is a Spec, or a data set, whose ``spec`` is a DataSpec."""

    spec: Any


@runtime_checkable
class HasFrameFeatures(Protocol):
    """A network of windows, part of whose computation reads one frame at a time.

    Restoration computes these features once for each frame instead of once for each window that holds it. For a window
    ``lq``, ``network(lq)`` equals, up to rounding, ``from_features`` of the features of its frames. Frames may be
    channels_last.
    """

    def frame_features(self, frames: Tensor) -> Sequence[Tensor]:
        """Returns the features of frames (n, 3, h, w), each of shape (n, …)."""
        ...

    def from_features(self, features: Sequence[Tensor], center: Tensor) -> Tensor:
        """Returns the restored frame; features are (b, t, …) each, ``center`` is the frame to restore, (b, 3, h, w)."""
        ...


@runtime_checkable
class CleansFrames(Protocol):
    """A network of clips that cleans its input before it restores it.

    ``network(lq, return_lqs=True)`` returns the output and the cleaned frames, which have the shape of ``lq`` and a
    loss of their own, ``train.cleaning_opt``.
    """

    def clean(self, lq: Tensor) -> Tensor:
        """Returns the cleaned frames, (b, t, 3, h, w)."""
        ...


@runtime_checkable
class HasTask(Protocol):
    """A trainer, with the task of its networks."""

    task: Task


@runtime_checkable
class TrainSection(Protocol):
    """A trainer's options, the section ``train``: TrainOptions, or a dataclass derived from it."""

    def notes(self) -> Iterator[str]:
        """Yields settings that are allowed but may not be intended, ``key: reason``."""
        ...

    def mistakes(self, network: nn.Module) -> Iterator[tuple[str, str]]:
        """Yields settings that do not fit the network: the key path within ``train``, and the reason."""
        ...


def data_spec(dataset: object) -> DataSpec:
    """Returns the spec of a data set; of a ConcatDataset or Subset, that of its first part."""
    if isinstance(dataset, HasSpec):
        return dataset.spec
    if isinstance(dataset, ConcatDataset):
        return data_spec(dataset.datasets[0])
    return data_spec(dataset.dataset) if isinstance(dataset, Subset) else DataSpec()


@runtime_checkable
class Keyed(Protocol):
    """A training set that takes its random choices from the sample's key, without global generators; ours do."""

    def __len__(self) -> int: ...
    def read(self, index: int, key: SampleKey) -> Sample:
        """Returns the sample that ``dataset[index]`` would return, its random choices drawn from ``key.rng()``.

        Its arrays may be views. ``passed_over`` lists the errors of unreadable samples that this one stands in for.
        """
        ...


@runtime_checkable
class Resizable(Protocol):
    """A training set whose clips and crops can be resized, for ``datasets.train.stages``; our sets of crops can."""

    spec: DataSpec

    def resized(self, num_frame: int | None, gt_size: int | None) -> "Resizable":
        """Returns the same set with samples of other sizes, None keeps one; ValueError if one is too large."""
        ...


class Clip(NamedTuple):
    """A clip of a test set: names at once, pixels when they are asked for.

    Args:
        name: "000".
        frames: the names of its LQ frames, in order, "00000014".
        lq: returns a frame by its index, (h, w, 3) uint8 RGB. Several threads call it at a time, unless ``in_order``.
        gt: returns a frame's ground truth, (scale·h, scale·w, 3) uint8 RGB, by the index of the LQ frame; None where
            there is none.
        targets: the indices of the frames that are restored and measured.
        padding: which frames stand in for those before the first and after the last, for a network of windows.
        in_order: frames are read one at a time, in ascending order as far as possible; a video decodes fastest so.
        size: (h, w) of the ground truth, where it is known; the name of a published protocol needs it.
    """

    name: str
    frames: tuple[str, ...]
    lq: Callable[[int], np.ndarray]
    gt: Callable[[int], np.ndarray] | None
    targets: range
    padding: Padding = "reflection_circle"
    in_order: bool = False
    size: tuple[int, int] | None = None


class ClipSet(Protocol):
    """A test set for super-resolution: clips, in order."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Clip: ...


def shared_clips(first: DataSpec, second: DataSpec) -> list[str]:
    """Returns the clips, by their folders, of which two data sets use the same frames."""

    def overlap(clip: str) -> bool:
        pairs = product(first.clips[clip], second.clips.get(clip, ()))
        return any(max(a.start, b.start) < min(a.stop, b.stop) for a, b in pairs)

    return [clip for clip in first.clips if overlap(clip)]


def mismatches(network: Spec, data: DataSpec, name: str, path: str) -> Iterator[tuple[str, str]]:
    """Yields the reasons why a network cannot read a data set, each with the key path of the wrong option.

    ``name`` is the network's, ``path`` the data set's key path, ``datasets.train``; both are for the messages.
    """
    if data.task != network.task:
        yield path, f"it is for {data.task}, but {name} is for {network.task}"
        return
    if network.reads == "window" and data.is_mirrored:
        yield f"{path}.flip_sequence", f"true, but {name} restores the middle frame of a window: leave it out"
    elif network.reads == "window" and data.gt_frames and data.num_frames is not None and data.num_frames % 2 == 0:
        text = f"{data.num_frames} is even, but {name} restores the middle frame of a window: choose an odd number"
        yield f"{path}.num_frame", text
    elif None not in (network.num_frames, data.num_frames) and data.num_frames != network.num_frames:
        yield f"{path}.num_frame", f"{data.num_frames}, but network_g.num_frame is {network.num_frames}"
    is_for_tests = data.phases == ("test",)  # whole clips, whatever their windows
    if not is_for_tests and data.num_frames is not None and data.num_frames < network.min_frames:
        yield f"{path}.num_frame", f"{data.num_frames}, but {name} reads clips of at least {network.min_frames} frames"
    if network.reads == "clip" and data.gt_frames == "center":
        yield f"{path}.gt_frames", f"center, but {name} restores every frame of a clip: set gt_frames: all"
    if None not in (network.test_type, data.test_type) and data.test_type != network.test_type:
        yield f"{path}.test_type", f"{data.test_type}, but network_g.test_type is {network.test_type}"
    if network.frame_size is not None and data.frame_size not in (None, network.frame_size):
        text = f"height, width are {list(data.frame_size)}, but network_g.frame_size is {list(network.frame_size)}"
        yield path, text
    if data.crop_size is None:
        return
    if data.crop_size // network.scale % network.multiple:
        unit = network.scale * network.multiple
        nearest = max(round(data.crop_size / unit), 1) * unit
        yield f"{path}.gt_size", f"{data.crop_size} is not a multiple of {unit} ({name}); nearest: {nearest}"
    elif data.crop_size // network.scale < network.min_size:
        smallest = network.min_size * network.scale
        yield f"{path}.gt_size", f"{data.crop_size} is too small for {name}: at least {smallest}"
    if network.is_fixed_to_map and (text := other_maps(network, data)):
        yield "network_g.map_size", text


def other_maps(network: Spec, data: DataSpec) -> str | None:
    """Returns how the maps of training crops differ from those that a memory was made for; None if they do not."""
    if network.map_size is None or data.crop_size is None:
        return None
    given, size = list(network.map_size), data.crop_size // network.pixels_per_position
    text = f"{given}, but the maps of datasets.train.gt_size {data.crop_size} are {size} × {size}: leave it out"
    return None if given == [size, size] else text
