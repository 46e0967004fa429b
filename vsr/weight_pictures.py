"""Writes what a network's memory read, frame by frame: ``python -m vsr.test … --save_weights``."""

from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from vsr.archs import EDVRMemory
from vsr.data.loader import batches
from vsr.evaluation import padded, write_image
from vsr.memory.pictures import memory_pictures
from vsr.options import DatasetOptions
from vsr.utils.errors import UserError


def save_weight_pictures(network: nn.Module, entry: DatasetOptions, folder: Path, device: torch.device) -> None:
    """Writes ``folder/CLIP/FRAME_NAME.png`` for every frame of a test set; see ``memory_pictures`` for the names.

    Args:
        network: an EDVRMemory.
        entry: the test set.
        folder: receives the pictures.
        device: the network's.

    Raises:
        UserError: the network has no memory.
    """
    if not isinstance(network, EDVRMemory):
        raise UserError(f"--save_weights draws a memory's weights, but {type(network).__name__} has no memory")
    center = network.center_frame_idx
    labels = [f"{index - center:+d}" if index != center else "0" for index in range(network.num_frame)]
    dataset = entry.open()
    samples = batches(dataset, num_workers=entry.loader.num_worker_per_gpu)
    for sample in tqdm(samples, total=len(dataset), unit="frame", desc="weights", leave=False):
        window = padded(sample["lq"], network.size_multiple)
        with torch.inference_mode():
            aligned = network.align(window.unsqueeze(0).to(device))
            memory = network.memory_fusion.memory
            pictures = memory_pictures(memory, aligned[:, center], aligned, window, labels, center)
        for name, picture in pictures.items():
            write_image(folder / sample["clip"] / f"{sample['frame']}_{name}.png", picture)
