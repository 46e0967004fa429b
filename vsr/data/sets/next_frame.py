"""HumanEva-I, people filmed by fixed cameras at 60 frames per second, and Charades, filmed at home by its actors."""

from vsr.data.sets.frame_windows import FrameWindows
from vsr.registry import register


@register("dataset")
class HumanEvaDataset(FrameWindows):
    """Windows of equally spaced frames: past frames, the current frame and the one after it, which is to be predicted.

    A sample is a dict, t = input_size: ``sentences`` (t, 3, h, w), oldest first, ``query`` and ``next`` (3, h, w), all
    uint8 RGB; ``target``, which ``test_type`` defines; texts: ``key`` "S1_Box_1_(C1)/000550", the query's clip and
    frame, ``clip``, ``action``, ``camera``, empty where unknown. Frame k of a clip is the k-th by the number its name
    ends with, whatever the first number, the padding or the prefix.

    Args:
        dataroot: the data set's folder with the frames in ``image/CLIP/``, or the folder of the clips itself.
        list_file: list of the clips; the CSV that the preparation script writes, or one name per line. When it is one
            of train_list.csv, val_list.csv and test_list.csv, no clip may share frames with the others.
        input_size: number of sentences.
        frame_interval: distance of neighbouring frames of a window, in frames.
        random_interval: draws the interval of each sample from 1 to ``frame_interval``; for training only.
        width: of the frames, in pixels, averaged down from what is on disk.
        height: of the frames.
        test_type: ``nextframe``: target is ``next``. ``subtract``: (next - query) / 255, float32 in [-1, 1].
            ``opticalflow``: (2, h, w) float32, x then y in pixels, the flow by which the query becomes the next frame:
            next(p) ≈ query(p + flow(p)).
        short_clip: what becomes of a clip too short for a window: ``skip`` leaves it out, ``shrink`` reads it at the
            largest interval that fits.
        window_step: frames between the starts of neighbouring windows, which are nearly the same: validation sets take
            a large step.
        flow_cache: folder where flows are kept once computed, 8 * width * height bytes each; ~ is DATAROOT/flow.
        frame_cache: folder where clips are kept decoded and resized, 3 * width * height bytes per frame; it is filled
            when the first sample is read, and again for clips whose files change. ~ decodes the images of each sample.
        max_windows: uses only this many windows, evenly spread; ~ is all.

    Raises:
        FileNotFoundError: the list or a clip is missing.
        ValueError: options or entries that are wrong, or no clip is long enough.
    """

    subfolders = ("image",)
    remedy = (
        "HumanEva-I is at http://humaneva.is.tue.mpg.de (registration); `python scripts/prepare_humaneva.py` makes the "
        "frames and the lists"
    )


@register("dataset")
class CharadesDataset(FrameWindows):
    """Windows of frames of Charades; samples and arguments as ``HumanEvaDataset``; two things differ.

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
