"""Names how a PSNR or SSIM was measured, so that only comparable numbers are compared.

Published numbers differ by more than a decibel with the channel (RGB or Y), by 0.1 dB with the cropped border, and
with the frames counted. A result has the name of a published protocol only if every setting equals the protocol's;
otherwise the name lists the differences.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple


class Protocol(NamedTuple):
    """How frames are compared; settings that are the same in every protocol are recorded, too."""

    name: str  # "reds4-rgb", "reds4-rgb+crop8+replicate", "mydata-y"
    channel: Literal["rgb", "y"]
    crop_border: int
    padding: str  # which frames stand in for those before the first and after the last
    clips: int
    frames: int  # over all clips; every frame counts, the first and the last too
    version: int = 1
    rounding: str = "clamped to [0, 255], rounded to uint8"
    mean: str = "frames of a clip, then clips"
    scale: int = 4
    bicubic: Mapping[str, float] = {}  # published, by metric: where ours differ, the frames do


_REFLECTION = "reflection_circle"
# Frames of clips: VRT table 1 for the bicubic rows; mmagic's and BasicSR's option files for the settings.
_PUBLISHED = (
    Protocol("reds4-rgb", "rgb", 0, _REFLECTION, clips=4, frames=400, bicubic={"psnr": 26.14, "ssim": 0.7292}),
    Protocol("redsofficial4-rgb", "rgb", 0, _REFLECTION, clips=4, frames=400),
    Protocol("redsofficial-rgb", "rgb", 0, _REFLECTION, clips=30, frames=3000),
    Protocol("vid4-y", "y", 0, _REFLECTION, clips=4, frames=171, bicubic={"psnr": 23.78, "ssim": 0.6347}),
    Protocol("vid4-rgb", "rgb", 0, _REFLECTION, clips=4, frames=171),
)


def protocol_for(
    dataset: str,
    frames_per_clip: Sequence[int],
    padding: str,
    scale: int,
    crop_border: int = 0,
    test_y_channel: bool = False,
    is_bd: bool = False,
    also: Sequence[str] = (),
) -> Protocol:
    """Returns the protocol of one test: a published one if all settings equal its own, else one that names them.

    ``dataset`` is the test set's ``name`` in the options file, "REDS4"; ``frames_per_clip`` the numbers of measured
    frames; ``is_bd`` whether the LQ frames are known to be blurred and subsampled (BD), not bicubic (BI); ``also``
    further settings that no published protocol here has, "flipseq".
    """
    channel = "y" if test_y_channel else "rgb"
    name = f"{dataset.lower()}-{channel}"
    clips, frames = len(frames_per_clip), sum(frames_per_clip)
    published = next((protocol for protocol in _PUBLISHED if protocol.name == name), None)
    differences = ["bd"] if is_bd else []
    if published and (clips, frames) != (published.clips, published.frames):
        differences.append(f"{clips}clips{frames}frames")
    if scale != 4:
        differences.append(f"x{scale}")
    if crop_border:
        differences.append(f"crop{crop_border}")
    if padding != _REFLECTION:
        differences.append(padding)
    differences += also
    if published and not differences:
        return published
    return Protocol("+".join([name, *differences]), channel, crop_border, padding, clips, frames, scale=scale)
