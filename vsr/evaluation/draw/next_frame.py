"""Pictures of predicted frames and of the memories' weights."""

from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from vsr.evaluation.draw.comparison import beside, difference, difference_map
from vsr.evaluation.draw.images import to_bgr, to_image, write_image
from vsr.evaluation.draw.memory import weight_bars, weight_maps
from vsr.evaluation.next_frame import COMPARED, Predicted
from vsr.evaluation.restore import to_pixels


def write_pictures(folder: Path, predicted: Predicted) -> None:
    """Writes ``out_image/NUMBER/*.jpg`` and ``weight_image/NUMBER/level_1.jpg``, … (1 is the largest).

    The frames are sentence_00 (the oldest), …, query, target, prediction; for test_type subtract also difference (grey
    is 0), for opticalflow flow and flow_target (colour is direction, brightness is length).
    """
    number, sample = str(predicted.number), predicted.sample
    images = {f"sentence_{index:02d}": to_image(frame) for index, frame in enumerate(sample["sentences"])}
    images |= {"query": to_image(sample["query"]), "target": to_image(sample["next"])}
    images["prediction"] = to_image(predicted.by_method["network"])
    if predicted.flows:
        longest = float(sample["target"].norm(dim=0).max())
        images |= {"flow": flow_image(predicted.output, longest), "flow_target": flow_image(sample["target"], longest)}
    elif sample["target"].min() < 0:
        images["difference"] = to_image((predicted.output + 1) / 2)
    for name, image in images.items():
        write_image(folder / "out_image" / number / f"{name}.jpg", image)
    for level, picture in weight_pictures(predicted).items():
        write_image(folder / "weight_image" / number / f"{level}.jpg", picture)


def weight_pictures(predicted: Predicted) -> dict[str, np.ndarray]:
    """Returns each level's weights, (h, w, 3) uint8 BGR: bars, or maps over the sentences."""
    sentences = predicted.sample["sentences"]
    labels = [f"{index - len(sentences)}" for index in range(len(sentences))]  # steps before the query
    return {
        f"level_{number}": (weight_bars if share.ndim == 1 else weight_maps)(share, sentences, labels)
        for number, share in enumerate(predicted.weights, start=1)
    }


def comparison(rows: list[Predicted]) -> np.ndarray:
    """Returns a row of pictures per sample, (h, w, 3) uint8 BGR: methods, truth, and 4 times the network's error."""
    pictures = []
    for predicted in rows:
        panels = {name: to_image(predicted.by_method[name]) for name in COMPARED}
        truth = to_image(predicted.sample["next"])
        panels |= {"target": truth, "error x4": difference(panels["network"], truth)}
        pictures.append(beside(panels))
    return np.vstack(pictures)


def panels(predicted: Predicted) -> dict[str, np.ndarray]:
    """Returns the pictures of a sample, (h, w, 3) uint8 BGR, by title: methods, truth, difference."""
    images = {name: to_image(predicted.by_method[name]) for name in COMPARED}
    truth = to_image(predicted.sample["next"])
    return images | {"GT": truth, "difference": difference_map(images["network"], truth)}


def example(predicted: Predicted) -> dict[str, np.ndarray]:
    """Returns TensorBoard's pictures of a sample, (h, w, 3) uint8 RGB, by title."""
    shown = {"target": predicted.sample["next"], "prediction": predicted.by_method["network"]}
    shown["copy-last"] = predicted.by_method["copy-last"]
    images = {title: to_pixels(frame) for title, frame in shown.items()}
    return images | {f"weights {level}": to_bgr(picture) for level, picture in weight_pictures(predicted).items()}


def flow_image(flow: Tensor, longest: float) -> np.ndarray:
    """Returns a flow (2, h, w) in colours, (h, w, 3) uint8 BGR: hue is the direction, brightness the length."""
    x, y = flow.numpy()
    length, angle = cv2.cartToPolar(x, y)
    hsv = np.stack([angle * 90 / np.pi, np.full_like(x, 255), np.clip(length / max(longest, 1e-6), 0, 1) * 255], -1)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)
