"""Charades: 9,848 videos of people acting out everyday scenes at home, filmed by themselves."""

from vsr.data.sets.frame_windows import FrameWindows
from vsr.registry import register


@register("dataset")
class CharadesDataset(FrameWindows):
    """Windows of equally spaced frames of Charades; samples and arguments as ``HumanEvaDataset``'s, two things differ.

    The clips' folders are in ``dataroot``/Charades_v1_480_img (frames 000000.jpg, ...), in ``dataroot``/Charades_v1_rgb
    (the official frames, 0A8CF-000001.jpg, ...), or in ``dataroot`` itself. ``action`` is the class of the list, c092,
    and ``camera`` is empty: every video is another home.

    Many videos are shorter than the 551 frames (23 s) of a window at the default interval: see ``short_clip``.
    """

    subfolders = ("Charades_v1_480_img", "Charades_v1_rgb")
    remedy = (
        "Charades is at https://prior.allenai.org/projects/charades; `python scripts/prepare_charades.py` makes the "
        "frames and the lists"
    )
