"""What frames carry beside their pixels: the mastering of HDR films, as encoders take it, and what is not kept."""

import struct
from typing import NamedTuple

import av

NOT_KEPT = {
    "A53_CC": "closed captions inside the pictures",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "STEREO3D": "the layout of stereoscopic pictures",
    "SPHERICAL": "the projection of a 360° film",
    "S12M_TIMECODE": "timecodes inside the pictures",
}
PARAMETERS = {"libx264": "x264-params", "libx265": "x265-params", "libsvtav1": "svtav1-params"}  # FFmpeg's options
_MASTERING = struct.Struct("22i")  # FFmpeg's AVMasteringDisplayMetadata: ten fractions and two flags
_LIGHT = struct.Struct("2I")


class Light(NamedTuple):
    """The static metadata of an HDR film (SMPTE ST 2086, CTA-861.3).

    Args:
        mastering: x and y of red, green, blue and white, and the least and the most cd/m² of the display; () is none.
        content: the most cd/m² of a pixel, and of a frame's mean; () is none.
    """

    mastering: tuple[float, ...] = ()
    content: tuple[int, ...] = ()


def light_of(frame: av.VideoFrame) -> Light:
    """Returns the static HDR metadata of a frame."""
    mastering, content = (_bytes(frame, name) for name in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"))
    numbers: tuple[float, ...] = ()
    if len(mastering) >= _MASTERING.size:
        *parts, has_primaries, has_luminance = _MASTERING.unpack_from(mastering)
        if has_primaries and has_luminance and all(parts[1::2]):
            numbers = tuple(top / bottom for top, bottom in zip(parts[::2], parts[1::2], strict=True))
    return Light(numbers, _LIGHT.unpack_from(content) if len(content) >= _LIGHT.size else ())


def parameters_of(light: Light, codec: str) -> list[str]:
    """Returns the parameters of an encoder in PARAMETERS that write this metadata."""
    names, found = {"libx264": ("mastering-display", "cll"), "libx265": ("master-display", "max-cll")}, []
    mastering, content = names.get(codec, ("mastering-display", "content-light"))
    if light.mastering:
        # x264 and x265 count in units of 0.00002 and of 0.0001 cd/m²
        units = [50000] * 8 + [10000] * 2 if codec in names else [0] * 10
        numbers = (f"{round(x * unit) if unit else x:.10g}" for x, unit in zip(light.mastering, units, strict=True))
        rx, ry, gx, gy, bx, by, wx, wy, least, most = numbers
        found.append(f"{mastering}=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({most},{least})")
    if light.content:
        found.append(f"{content}={light.content[0]},{light.content[1]}")
    return found


def not_kept(frame: av.VideoFrame) -> set[str]:
    """Returns the names of what a frame carries and its restored one does not."""
    return {text for name, text in NOT_KEPT.items() if frame.side_data.get(name) is not None}


def _bytes(frame: av.VideoFrame, name: str) -> bytes:
    found = frame.side_data.get(name)
    return b"" if found is None else bytes(found)
