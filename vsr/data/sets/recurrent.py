"""Training and test clips for networks that restore every frame of a clip, such as BasicVSR."""

from typing import Annotated, Literal

from vsr.data.sets.clips import find_clips, find_septuplets
from vsr.data.sets.crops import ClipCrops, CropOptions, OnBadFrame, crop_spec
from vsr.data.sets.test_clips import VideoTestDataset
from vsr.data.sources.base import DISK, IOBackend
from vsr.registry import Positive, Shared, register


@register("dataset")
class REDSRecurrentDataset(ClipCrops):
    """Training clips of REDS, or of folders of any frames in order: ROOT/000/00000000.png, ….

    A sample is a dict: ``lq`` (t, 3, gt_size / scale, gt_size / scale) and ``gt`` (t, 3, gt_size, gt_size), the same
    place in t successive frames, RGB; ``key`` names the middle frame, "000/00000014".

    Args:
        dataroot_gt: folder (or LMDB) of the ground truth clips.
        dataroot_lq: folder (or LMDB) of the low-resolution clips, also if they are in its sub-folder X4. ~ needs a
            ``degradation``, which makes LQ frames of the GT frames.
        meta_info_file: list of the clips, lines ``000 100 (720,1280,3)``; the second column is the number of frames.
        val_partition: clips left out for validation: REDS4 (000, 011, 015, 020), official (240 to 269), or none.
        scale: GT size / LQ size; the options' top level ``scale`` is filled in.
        num_frame: frames of a training clip, t.
        gt_size: side of the GT crop in pixels, a multiple of ``scale``.
        interval_list: distances between neighbouring frames, one drawn per sample. ~ is [1].
        random_reverse: plays half of the training clips backwards.
        flip_sequence: appends the training clip in reverse order; t is then 2 · num_frame.
        use_hflip: mirrors half of the samples.
        use_rot: flips half of the samples vertically and transposes half of them.
        starts: the first frame: ``uniform``; or ``basicsr``, each frame once per epoch, drawn anew where the training
            clip would leave the clip, which prefers the clip's beginning (by 14 % of its 100 frames at t = 15).
        io_backend: how both roots are stored.
        on_bad_frame: error stops at a damaged or missing frame, skip logs it and takes the next readable draw instead.

    Raises:
        FileNotFoundError: a root, a clip or a frame is missing.
        ValueError: options that contradict each other or the frames.
    """

    def __init__(
        self,
        dataroot_gt: str,
        dataroot_lq: str | None,
        meta_info_file: str,
        val_partition: Literal["REDS4", "official", "none"],
        scale: Annotated[Positive, Shared("scale")] = 4,
        num_frame: Positive = 15,
        gt_size: Positive = 256,
        interval_list: list[Positive] | None = None,
        random_reverse: bool = False,
        flip_sequence: bool = False,
        use_hflip: bool = False,
        use_rot: bool = False,
        starts: Literal["uniform", "basicsr"] = "uniform",
        io_backend: IOBackend = DISK,
        on_bad_frame: OnBadFrame = "error",
    ) -> None:
        turns = random_reverse, use_hflip, use_rot
        intervals = [1] if interval_list is None else interval_list
        options = CropOptions(scale, num_frame, gt_size, intervals, *turns, on_bad_frame, "all", starts, flip_sequence)
        self.spec = crop_spec(options, meta_info_file, dataroot_lq is not None)
        super().__init__(*find_clips(dataroot_gt, dataroot_lq, meta_info_file, val_partition, io_backend, options))


@register("dataset")
class Vimeo90KRecurrentDataset(ClipCrops):
    """Training clips of septuplets: ROOT/00001/0001/im1.png to im7.png.

    Samples are those of ``REDSRecurrentDataset``.

    Args:
        dataroot_gt: folder (or LMDB) of the ground truth sequences.
        dataroot_lq: folder (or LMDB) of the low-resolution sequences.
        meta_info_file: list of the septuplets, lines ``00001/0001 7 (256,448,3)``.
        scale: GT size / LQ size; the options' top level ``scale`` is filled in.
        num_frame: frames of a training clip, which begins at a random frame; -1 is all 7.
        gt_size: side of the GT crop in pixels, a multiple of ``scale``.
        random_reverse: plays half of the training clips backwards.
        flip_sequence: appends the training clip in reverse order: 14 frames of 7.
        use_hflip: mirrors half of the samples.
        use_rot: flips half of the samples vertically and transposes half of them.
        io_backend: how both roots are stored.
        on_bad_frame: error stops at a damaged or missing frame, skip logs it and takes the next readable draw instead.

    Raises:
        FileNotFoundError: a root is missing, or one of a hundred septuplets spread over the list.
        ValueError: options that contradict each other or the frames.
    """

    def __init__(
        self,
        dataroot_gt: str,
        dataroot_lq: str,
        meta_info_file: str,
        scale: Annotated[Positive, Shared("scale")] = 4,
        num_frame: Literal[-1, 1, 2, 3, 4, 5, 6, 7] = -1,
        gt_size: Positive = 256,
        random_reverse: bool = False,
        flip_sequence: bool = False,
        use_hflip: bool = False,
        use_rot: bool = False,
        io_backend: IOBackend = DISK,
        on_bad_frame: OnBadFrame = "error",
    ) -> None:
        turns, length = (random_reverse, use_hflip, use_rot), 7 if num_frame == -1 else num_frame
        options = CropOptions(scale, length, gt_size, [1], *turns, on_bad_frame, "all", "uniform", flip_sequence)
        self.spec = crop_spec(options, meta_info_file)
        super().__init__(*find_septuplets(dataroot_gt, dataroot_lq, meta_info_file, io_backend, options))


@register("dataset")
class VideoRecurrentTestDataset(VideoTestDataset):
    """Whole clips, for networks that restore every frame: ROOT/CLIP/FRAME.png, any names and sizes, or videos.

    Its items are :class:`vsr.contracts.Clip`. ``val.segment`` cuts clips that are too long for the memory.

    Args:
        dataroot_lq: folder (or LMDB) of the low-resolution clips, also if they are in its sub-folder X4; or a video, or
            a folder of videos.
        dataroot_gt: folder (or LMDB) of the ground truth clips of the same names, or videos likewise; ~ for none.
        meta_info_file: list of the clips, see VideoTestDataset; ~ takes every frame of every clip.
        num_frame: no effect, whole clips are read; BasicSR's files hold the key.
        cache_data: keeps every decoded frame in memory, from one validation to the next.
        io_backend: how both roots are stored.
        scale: GT size / LQ size; the options' top level ``scale`` is filled in.

    Raises:
        FileNotFoundError: a root or a clip is missing.
        ValueError: options that contradict each other or the frames, or LQ and GT that do not match.
    """

    def __init__(
        self,
        dataroot_lq: str,
        dataroot_gt: str | None = None,
        meta_info_file: str | None = None,
        num_frame: int = -1,
        cache_data: bool = False,
        io_backend: IOBackend = DISK,
        scale: Annotated[Positive, Shared("scale")] = 4,
    ) -> None:
        arguments = {"cache_data": cache_data, "io_backend": io_backend, "scale": scale}
        try:
            super().__init__(dataroot_lq, dataroot_gt, meta_info_file, num_frame=1, **arguments)
        finally:  # also where folders are missing, since --check reads it
            self.spec = self.spec._replace(num_frames=None)
