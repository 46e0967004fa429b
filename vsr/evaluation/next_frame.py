"""Predicts the frames of a next-frame test set and measures them; validations during training use the same code.

Untrained baselines are measured as well: ``copy-last``, the current frame; ``mean of memory``, the mean of the past
frames; ``best memory frame``, the past frame nearest to the true one, an oracle.
"""

from collections.abc import Generator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vsr.archs.build import spec_of
from vsr.contracts import TestType
from vsr.data.stream.loader import batches, to_device
from vsr.evaluation.scores import FrameScore
from vsr.metrics import calculate_psnr, calculate_ssim
from vsr.utils.distributed import Place

BATCH_SIZE = 8
SSIM_WINDOW = 11  # smaller frames have no SSIM
MOST_PSNR = 100.0  # dB: a still camera repeats frames, and the mean of all would be infinite
MOVED = 10.5 / 255  # a pixel has moved if a channel changes by more, that is by 11 levels, to the next frame
ERRORS = ("loss", "l1", "epe")  # values that are better when lower
COMPARED = ("copy-last", "mean of memory", "network")
PROTOCOL = {
    "loss": "mean absolute difference between the network's output and its target, in the target's unit",
    "l1": "mean absolute difference between predicted and true frame, of a range of 1",
    "psnr": "dB, RGB floats clamped to [0, 1], not rounded, no border left out; at most 100, as of equal frames",
    "ssim": "Gaussian window 11 x 11, sigma 1.5, mean of the RGB channels",
    "psnr_moved": "dB, over the pixels that change by more than 10 of 255 levels to the next frame; not if none does",
    "epe": "mean distance of the flow vectors from OpenCV's DIS flow, in pixels of the resized frame",
    "mean": "over the samples of a clip, then over the clips",
}


class Predicted(NamedTuple):
    """A sample and its predictions; frames are (3, h, w), RGB in [0, 1], on the CPU."""

    number: int  # of the sample in the data set
    sample: dict[str, Any]
    by_method: dict[str, Tensor]
    output: Tensor  # the network's; its meaning is test_type's
    flows: dict[str, Tensor]  # (2, h, w), by method, for test_type opticalflow
    weights: list[Tensor]  # of each level: (t,) or (t, h_l, w_l), of sum 1 over t; empty if not requested


@torch.inference_mode()
def predict_all(
    network: nn.Module, dataset: Any, num_workers: int, place: Place, num_weights: int = 0
) -> Generator[tuple[Predicted, list[FrameScore]]]:
    """Yields this rank's share of the samples, a run of neighbours, each with its predictions and scores.

    ``network`` is a FramePredictor in evaluation mode; ``num_workers`` processes read frames ahead. The first
    ``num_weights`` samples of the data set have their memory's weights.
    """
    test_type = spec_of(network).test_type
    share = place.share(len(dataset))
    index = share.start
    for batch in batches(dataset, share, BATCH_SIZE, num_workers):
        batch = to_device(batch, torch.device("cpu"))
        query, sentences = batch["query"].to(place.device), batch["sentences"].to(place.device)
        output, weights = network(query, sentences, index < num_weights)
        frames = network.frame_of(output, query).float().cpu()  # type: ignore[operator]  # a method
        output, weights = output.float().cpu(), [level.float().cpu() for level in weights or []]
        for number in range(len(output)):
            sample = {name: value[number] for name, value in batch.items()}
            shares = [level[number] for level in weights] if index < num_weights else []
            predicted = compare(index, sample, frames[number], output[number], shares, test_type)
            yield predicted, measure(predicted)
            index += 1


def compare(
    number: int, sample: dict[str, Any], frame: Tensor, output: Tensor, weights: list[Tensor], kind: TestType | None
) -> Predicted:
    """Returns the network's frame and the baselines; ``kind`` is the network's test_type."""
    sentences, query, truth = sample["sentences"], sample["query"], sample["next"]
    nearest = (sentences - truth).abs().flatten(1).mean(1).argmin()
    frames = {"copy-last": query, "mean of memory": sentences.mean(0), "best memory frame": sentences[nearest]}
    frames["network"] = frame.clamp(0, 1)
    flows = {"copy-last": torch.zeros_like(output), "network": output} if kind == "opticalflow" else {}
    return Predicted(number, sample, frames, output, flows, weights)


def measure(predicted: Predicted) -> list[FrameScore]:
    """Returns a sample's scores, one entry per method; see PROTOCOL."""
    sample = predicted.sample
    truth, frame_name = sample["next"], sample["key"].rpartition("/")[2]
    moved = ((truth - sample["query"]).abs().amax(0) > MOVED).numpy()
    scores = []
    for method, frame in predicted.by_method.items():
        values: dict[str, float] = {}
        if method == "network":
            values["loss"] = float((predicted.output - sample["target"]).abs().mean())
        values["l1"] = float((frame - truth).abs().mean())
        pixels, true_pixels = (image.permute(1, 2, 0).double().numpy() * 255 for image in (frame, truth))
        values["psnr"] = min(calculate_psnr(pixels, true_pixels, crop_border=0), MOST_PSNR)
        if min(pixels.shape[:2]) >= SSIM_WINDOW:
            values["ssim"] = calculate_ssim(pixels, true_pixels, crop_border=0)
        if moved.any():
            values["psnr_moved"] = min(calculate_psnr(pixels[moved], true_pixels[moved], crop_border=0), MOST_PSNR)
        if method in predicted.flows:
            values["epe"] = float((predicted.flows[method] - sample["target"]).norm(dim=0).mean())
        scores.append(FrameScore(method, sample["clip"], frame_name, values, sample["action"], sample["camera"]))
    return scores


def standing(means: dict[str, dict[str, float]]) -> str:
    """Returns a line that compares the network with the baselines, from values by method and metric."""
    text = ", ".join(f"{method} {means[method]['psnr']:.2f} dB" for method in COMPARED)
    return text if beats_memory(means) else f"{text}: the network is not above the mean of its memory"


def beats_memory(means: dict[str, dict[str, float]]) -> bool:
    """Returns whether the network is better than the mean of its memory, a baseline."""
    return means["network"]["psnr"] > means["mean of memory"]["psnr"]
