"""Images of a page: cut to a size that a page can hold, encoded, and held to a number of bytes."""

import base64
from collections.abc import Mapping

import cv2
import numpy as np

from vsr.evaluation.draw.comparison import difference_map
from vsr.evaluation.scores import Restored, baselines

Images = dict[str, bytes]  # PNG or JPEG, by title
LARGEST = 720, 1280  # of a picture; of larger frames the middle is shown
LOSSLESS = 192 * 192  # pixels of the largest picture that is stored as PNG


def cut(restored: Restored, scale: int) -> Restored:
    """Returns what a page needs of a frame, without baselines; of one larger than LARGEST the middle.

    Pictures so keep their pixels, and frames that are kept until their clip ends take little memory.
    """
    h, w = restored.lq.shape[:2]
    rows, columns = (min(length, most // scale) for length, most in zip((h, w), LARGEST, strict=True))
    if (rows, columns) == (h, w):
        return restored._replace(by_method={"network": restored.by_method["network"]})
    top, left = (h - rows) // 2, (w - columns) // 2

    def part(image: np.ndarray, factor: int) -> np.ndarray:
        return image[top * factor : (top + rows) * factor, left * factor : (left + columns) * factor].copy()

    gt = None if restored.gt is None else part(restored.gt, scale)
    by_method = {"network": part(restored.by_method["network"], scale)}
    return restored._replace(lq=part(restored.lq, 1), gt=gt, by_method=by_method)


def panels(restored: Restored, scale: int) -> dict[str, np.ndarray]:
    """Returns the pictures of a frame, (h, w, 3) uint8 BGR, by title: LQ, bicubic, network, GT, difference."""
    network = restored.by_method["network"]
    images = {} if scale == 1 else {"LQ": restored.lq}
    images |= {name: image for name, image in baselines(restored.lq, scale).items() if name != "bilinear"}
    images["network"] = network
    if restored.gt is not None:
        images |= {"GT": restored.gt, "difference": difference_map(network, restored.gt)}
    return images


def encoded(images: Mapping[str, np.ndarray]) -> Images:
    """Returns images (h, w, 3) uint8 BGR as files: LQ and small ones as PNG, others as JPEG."""
    return {title: _encoded(image, title == "LQ") for title, image in images.items()}


def _encoded(image: np.ndarray, lossless: bool) -> bytes:
    h, w = image.shape[:2]
    return cv2.imencode(".png", image)[1].tobytes() if lossless or h * w <= LOSSLESS else _jpeg(image, 93)


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    full_colour = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality, *full_colour])[1].tobytes()


def size_of(image: bytes) -> tuple[int, int]:
    """Returns height and width of an encoded image."""
    h, w = _decoded(image).shape[:2]
    return h, w


def coarser(images: Images, quality: int) -> Images:
    """Returns images, the JPEGs among them with a lower quality."""
    return {title: _jpeg(_decoded(data), quality) if _is_jpeg(data) else data for title, data in images.items()}


def data_uri(image: bytes) -> str:
    """Returns an image as the text of a ``src``."""
    return f"data:image/{'jpeg' if _is_jpeg(image) else 'png'};base64,{base64.b64encode(image).decode()}"


def from_data_uri(text: str) -> bytes:
    """Returns the image of a ``src`` that data_uri wrote."""
    return base64.b64decode(text.partition(",")[2], validate=True)


def _is_jpeg(image: bytes) -> bool:
    return image.startswith(b"\xff\xd8")


def _decoded(image: bytes) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None, "it was encoded here"
    return decoded
