"""Charades: 9,848 videos of people acting out everyday scenes at home, filmed by themselves."""

from torch.utils.data import Dataset

from vsr.data.sets.frame_windows import FrameWindows, Sample, ShortClip, TestType, WindowOptions
from vsr.data.stream.sampler import SampleKey
from vsr.registry import register

HELP = (
    "Charades is at https://prior.allenai.org/projects/charades; `python scripts/prepare_charades.py` makes the frames "
    "and the lists"
)


@register("dataset")
class CharadesDataset(Dataset[Sample]):
    """Windows of equally spaced frames of Charades; samples and arguments as ``HumanEvaDataset``'s, two things differ.

    The clips' folders are in ``dataroot``/Charades_v1_480_img (frames 000000.jpg, ...), in ``dataroot``/Charades_v1_rgb
    (the official frames, 0A8CF-000001.jpg, ...), or in ``dataroot`` itself. ``action`` is the class of the list, c092,
    and ``camera`` is empty: every video is another home.

    Many videos are shorter than the 551 frames (23 s) of a window at the default interval: see ``short_clip``.
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
        folders = ("Charades_v1_480_img", "Charades_v1_rgb")
        self.windows = FrameWindows(dataroot, folders, list_file, options, flow_cache, frame_cache, HELP)

    def __len__(self) -> int:
        """Returns the number of windows."""
        return len(self.windows)

    def __getitem__(self, key: int | SampleKey) -> Sample:
        """Returns a sample; a plain number has the full interval, a key draws what is random from itself alone."""
        return self.windows.sample(key)
