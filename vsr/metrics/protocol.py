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
Size = tuple[int, int]


def _reds(*clips: int) -> dict[str, tuple[int, Size]]:
    return {f"{clip:03d}": (100, (720, 1280)) for clip in clips}


_CLIPS = {  # of published sets: measured frames, and (h, w) of the ground truth
    "reds4": _reds(0, 11, 15, 20),
    "redsofficial4": _reds(240, 241, 246, 257),
    "redsofficial": _reds(*range(240, 270)),
    "vid4": {
        "calendar": (41, (576, 720)),
        "city": (34, (576, 704)),
        "foliage": (49, (480, 720)),
        "walk": (47, (480, 720)),
    },
}


def protocol_for(
    dataset: str,
    clips: Mapping[str, tuple[int, Size | None]],
    padding: str,
    scale: int,
    crop_border: int = 0,
    test_y_channel: bool = False,
    is_bd: bool = False,
    also: Sequence[str] = (),
) -> Protocol:
    """Returns the protocol of one test: a published one if all settings equal its own, else one that names them.

    ``dataset`` is the test set's ``name`` in the options file, "REDS4"; ``clips`` the number of measured frames and the
    size (h, w) of the ground truth by the name of a clip; ``is_bd`` whether the LQ frames are known to be blurred and
    subsampled (BD), not bicubic (BI); ``also`` further settings that no published protocol here has, "flipseq".
    """
    channel = "y" if test_y_channel else "rgb"
    name = f"{dataset.lower()}-{channel}"
    frames = sum(count for count, _ in clips.values())
    published = next((protocol for protocol in _PUBLISHED if protocol.name == name), None)
    differences = ["bd"] if is_bd else []
    if published:
        expected = _CLIPS[dataset.lower()]
        sizes = [size for clip, (_, size) in clips.items() if clip in expected and size != expected[clip][1]]
        if not clips.keys() <= expected.keys():
            differences.append("otherclips")
        elif sizes:
            differences.append("x".join(map(str, sizes[0])) if sizes[0] else "unknownsize")
        counts_differ = any(clip in expected and count != expected[clip][0] for clip, (count, _) in clips.items())
        if counts_differ or (len(clips), frames) != (published.clips, published.frames):
            differences.append(f"{len(clips)}clips{frames}frames")
    if scale != 4:
        differences.append(f"x{scale}")
    if crop_border:
        differences.append(f"crop{crop_border}")
    if padding != _REFLECTION:
        differences.append(padding)
    differences += also
    if published and not differences:
        return published
    return Protocol("+".join([name, *differences]), channel, crop_border, padding, len(clips), frames, scale=scale)
