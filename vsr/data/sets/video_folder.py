"""Training clips straight from video files."""

from typing import Annotated

import numpy as np

from vsr.data.sets.crops import ClipCrops, CropOptions, GtFrames, OnBadFrame, TrainingClip, crop_spec
from vsr.data.sets.roots import places_of
from vsr.data.sources.base import root_path
from vsr.data.sources.downscaled import DownscaledStore
from vsr.data.video.cache import VideoCache
from vsr.data.video.store import VideoStore
from vsr.registry import Positive, Shared, register
from vsr.utils.log import counted

REMEDY = "name a folder of video files, such as films/a.mp4 and films/b.mkv"


@register("dataset")
class VideoFolderDataset(ClipCrops):
    """Training samples from a folder of video files; the films are the ground truth, and LQ is made of them.

    A sample is that of ``REDSDataset``; ``key`` is the video's name and the frame's number, "film/00000014". A window
    lies within a shot. When the set is first opened, every video is decoded into ``frame_cache``, with a progress bar:
    3 bytes per pixel, 4 GB per minute of 720p at 24 frames per second. Crops are then read without decoding. LQ frames
    are bicubic (MATLAB's ``imresize``), or those of a ``degradation``, which needs ``gt_frames: all``.

    Args:
        dataroot: folder of the videos, or one video.
        frame_cache: folder of the decoded frames; ~ is DATAROOT/frame_cache.
        scale: GT size / LQ size; the options' top level ``scale`` is filled in.
        num_frame: frames in a window, odd.
        gt_size: side of the GT crop in pixels, a multiple of ``scale``.
        interval_list: distances between neighbouring frames of a window, one drawn per sample. ~ is [1].
        random_reverse: plays half of the windows backwards.
        use_hflip: mirrors half of the samples.
        use_rot: flips half of the samples vertically and transposes half of them.
        gt_frames: the frames with ground truth: ``center`` (k = 1), or ``all`` of the window (k = num_frame).
        on_bad_frame: error stops at an unreadable frame of the cache, skip takes the next readable draw instead.

    Raises:
        FileNotFoundError: the folder is missing.
        ValueError: there is no video, or one that is too short or too small.
    """

    def __init__(
        self,
        dataroot: str,
        frame_cache: str | None = None,
        scale: Annotated[Positive, Shared("scale")] = 4,
        num_frame: Positive = 5,
        gt_size: Positive = 256,
        interval_list: list[Positive] | None = None,
        random_reverse: bool = False,
        use_hflip: bool = False,
        use_rot: bool = False,
        gt_frames: GtFrames = "center",
        on_bad_frame: OnBadFrame = "error",
    ) -> None:
        intervals = [1] if interval_list is None else interval_list
        turns = random_reverse, use_hflip, use_rot
        options = CropOptions(scale, num_frame, gt_size, intervals, *turns, on_bad_frame, gt_frames)
        self.spec = crop_spec(options, dataroot)._replace(files=(), degradation=f"BI x{scale}")
        root = root_path("dataroot", dataroot)
        if not root.exists():
            raise FileNotFoundError(f"dataroot: '{root}' does not exist; {REMEDY}")
        videos = VideoStore(root)
        if not videos.files:
            raise ValueError(f"dataroot: '{root}' holds no video that can be read; {REMEDY}")
        folder = root if root.is_dir() else root.parent
        cache = root_path("frame_cache", frame_cache) if frame_cache is not None else folder / "frame_cache"
        gt = VideoCache(cache, videos.files)
        longest = (num_frame - 1) * max(intervals) + 1
        clips, num_left_out = [], 0
        for name in gt.clips():
            frames, size = gt.frames(name), gt.size(f"{name}/00000000")
            shots = [shot for shot in gt.shots(name) if len(shot) >= longest]
            num_left_out += len(gt.shots(name)) - len(shots)
            if not shots:
                needs = f"num_frame {num_frame} at interval {max(intervals)} needs {longest}"
                raise ValueError(f"video '{name}' has no shot of {longest} frames ({len(frames)} in all), but {needs}")
            clips += [TrainingClip(name, frames[shot.start : shot.stop], size) for shot in shots]
        items = [(number, frame) for number, clip in enumerate(clips) for frame in range(len(clip.frames))]
        super().__init__(gt, DownscaledStore(gt, scale), clips, np.array(items, np.int32), options)
        notes = self.spec.notes
        if num_left_out:
            notes += (f"{counted(num_left_out, 'shot')} of fewer than {longest} frames left out",)
        places = places_of([videos], [(clip.name, clip.frames) for clip in clips])
        self.spec = self.spec._replace(clips=places, notes=notes)
