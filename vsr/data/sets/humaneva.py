"""HumanEva-I: people who walk, jog, box, gesture and throw, seen by fixed cameras at 60 frames per second."""

from torch.utils.data import Dataset

from vsr.data.sets.frame_windows import FrameWindows, Sample, ShortClip, TestType, WindowOptions
from vsr.data.stream.sampler import SampleKey
from vsr.registry import register

HELP = (
    "HumanEva-I is at http://humaneva.is.tue.mpg.de (registration); `python scripts/prepare_humaneva.py` makes the "
    "frames and the lists"
)


@register("dataset")
class HumanEvaDataset(Dataset[Sample]):
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
        random_interval: draws the interval of each training sample from 1 to ``frame_interval``.
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

    task = "next-frame"

    def __init__(
        self,
        dataroot: str,
        list_file: str,
        input_size: int = 10,
        frame_interval: int = 50,
        random_interval: bool = False,
        width: int = 64,
        height: int = 64,
        test_type: TestType = "nextframe",
        short_clip: ShortClip = "skip",
        window_step: int = 1,
        flow_cache: str | None = None,
        frame_cache: str | None = None,
        max_windows: int | None = None,
    ) -> None:
        self.test_type: TestType = test_type
        self.input_size = input_size
        options = WindowOptions(
            input_size, frame_interval, random_interval, width, height, test_type, short_clip, window_step, max_windows
        )
        self.windows = FrameWindows(dataroot, ("image",), list_file, options, flow_cache, frame_cache, HELP)

    def __len__(self) -> int:
        """Returns the number of windows."""
        return len(self.windows)

    def __getitem__(self, key: int | SampleKey) -> Sample:
        """Returns a sample; a plain number has the full interval, a key draws what is random from itself alone."""
        return self.windows.sample(key)
