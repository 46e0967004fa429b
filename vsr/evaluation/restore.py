"""Restores every frame of a test set and measures it; training validates with the same code."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from vsr.data.degrade.imresize import imresize
from vsr.data.stream.loader import batches
from vsr.evaluation.draw.images import to_image
from vsr.evaluation.scores import FrameScore
from vsr.utils.distributed import Place
from vsr.utils.errors import UserError

Restore = Callable[[Tensor], Tensor]  # window (t, 3, h, w) in [0, 1] → frame (3, s·h, s·w)
Metrics = dict[str, Callable[..., float]]
MOST_THREADS = 8  # that measure: each holds several copies of a frame in float64


class TestSet(Protocol):
    """A map-style data set whose samples are frames: ``lq``, ``clip``, ``frame`` and, where there is one, ``gt``."""

    def __len__(self) -> int: ...
    def __getitem__(self, item: int) -> dict[str, Any]: ...


class Restored(NamedTuple):
    """A frame and what the methods made of it, all (h, w, 3) uint8 BGR; ``gt`` is None where there is none."""

    clip: str
    frame: str
    lq: np.ndarray
    gt: np.ndarray | None
    by_method: dict[str, np.ndarray]


@contextmanager
def full_float32() -> Generator[None]:
    """Keeps GPUs from rounding factors to TF32 while entered, which convolutions do by default."""
    former = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = former


def network_restorer(network: nn.Module, scale: int, device: torch.device) -> Restore:
    """Returns a function that restores a window with a network; sizes it cannot take are padded, then cropped.

    Args:
        network: takes (1, t, 3, h, w); ``size_multiple``, if it has one, is what h and w have to be multiples of.
        scale: of the output.
        device: the network's.
    """
    multiple = getattr(network, "size_multiple", 1)

    @torch.inference_mode()
    def restore(lq: Tensor) -> Tensor:
        h, w = lq.shape[-2:]
        window = padded(lq.to(device), multiple)
        return network(window.unsqueeze(0))[0, :, : h * scale, : w * scale].float().cpu()

    return restore


def padded(frames: Tensor, multiple: int) -> Tensor:
    """Returns frames (t, 3, h, w) continued on the right and below by their last pixels, to multiples of a size."""
    h, w = frames.shape[-2:]
    padding = (0, -w % multiple, 0, -h % multiple)
    return F.pad(frames, padding, mode="replicate") if any(padding) else frames


def baselines(scale: int) -> dict[str, Restore]:
    """Returns what every network is compared with: MATLAB's bicubic, and bilinear, which is EDVR's own base.

    At scale 1 it is the input itself.
    """
    if scale == 1:
        return {"input": lambda lq: lq[len(lq) // 2]}

    def bilinear(lq: Tensor) -> Tensor:
        center = lq[len(lq) // 2].unsqueeze(0)
        return F.interpolate(center, scale_factor=scale, mode="bilinear", align_corners=False)[0]

    return {"bicubic": lambda lq: imresize(lq[len(lq) // 2], scale), "bilinear": bilinear}


def restore_all(
    methods: dict[str, Restore], dataset: TestSet, num_workers: int, title: str | None, place: Place
) -> Generator[Restored]:
    """Yields this process's share of a test set's frames, as each method restores them.

    Args:
        methods: by name.
        dataset: a test set; see VideoTestDataset.
        num_workers: processes that read frames ahead.
        title: of the progress bar; None shows none.
        place: each rank takes one run of neighbouring frames; none is taken twice.
    """
    share = place.share(len(dataset))
    with (
        closing(batches(dataset, share, num_workers=num_workers)) as samples,
        tqdm(total=len(share), unit="frame", desc=title, disable=None if title else True, leave=False) as bar,
    ):
        for sample in samples:
            lq, gt = sample["lq"], sample.get("gt")
            frames = {name: restore(lq) for name, restore in methods.items()}
            for name, frame in frames.items():
                if not frame.isfinite().all():
                    raise UserError(
                        f"{sample['clip']}/{sample['frame']}: {name} gives numbers that are not finite; its weights "
                        "are damaged, or have diverged"
                    )
            by_method = {name: to_image(frame) for name, frame in frames.items()}
            center, truth = to_image(lq[len(lq) // 2]), None if gt is None else to_image(gt)
            yield Restored(sample["clip"], sample["frame"], center, truth, by_method)
            bar.update()


def measure(restored: Restored, metrics: Metrics) -> list[FrameScore]:
    """Returns a frame's scores, one entry per method; none without ground truth.

    Raises:
        UserError: a method's frame and the ground truth differ in size, or are too small to be measured.
    """
    if restored.gt is None:
        return []
    scores = []
    for method, image in restored.by_method.items():
        if image.shape != restored.gt.shape:
            raise UserError(
                f"{restored.clip}/{restored.frame}: {method} restored {image.shape[0]}×{image.shape[1]} pixels, "
                f"the ground truth has {restored.gt.shape[0]}×{restored.gt.shape[1]}: check `scale` and the folders"
            )
        try:
            values = {name: metric(image, restored.gt) for name, metric in metrics.items()}
        except ValueError as error:
            raise UserError(f"{restored.clip}/{restored.frame} cannot be measured: {error}") from error
        scores.append(FrameScore(method, restored.clip, restored.frame, values))
    return scores


def measure_all(frames: Generator[Restored], metrics: Metrics) -> Iterator[tuple[Restored, list[FrameScore]]]:
    """Yields each frame with its scores, in order.

    Threads measure while the next frames are restored: a GPU would wait for PSNR and SSIM.

    Args:
        frames: as ``restore_all`` yields them; closed in the end, also after a mistake, or its workers would stay.
        metrics: by name; several threads call them at a time.

    Raises:
        UserError: see measure.
    """
    num_threads = min(torch.get_num_threads(), MOST_THREADS)
    measured: deque[tuple[Restored, Future[list[FrameScore]]]] = deque()
    with closing(frames), ThreadPoolExecutor(num_threads) as pool:
        for restored in frames:
            measured.append((restored, pool.submit(measure, restored, metrics)))
            if len(measured) > num_threads:
                first, scores = measured.popleft()
                yield first, scores.result()
        for restored, scores in measured:
            yield restored, scores.result()


def middle_sample(dataset: TestSet) -> dict[str, Any]:
    """Returns the sample in the middle of a test set, the one to look at.

    Raises:
        UserError: it cannot be read.
    """
    return next(iter(batches(dataset, [len(dataset) // 2], num_workers=0)))
