"""Data sets, frame stores, the sample stream and MATLAB's imresize."""

from vsr.contracts import Clip, SampleKey
from vsr.data.degrade.imresize import imresize
from vsr.data.sets.clips import REDSDataset, Vimeo90KDataset
from vsr.data.sets.next_frame import CharadesDataset, HumanEvaDataset
from vsr.data.sets.recurrent import REDSRecurrentDataset, VideoRecurrentTestDataset, Vimeo90KRecurrentDataset
from vsr.data.sets.test_clips import VideoTestDataset, VideoTestVimeo90KDataset, generate_frame_indices
from vsr.data.sources import open_store
from vsr.data.sources.base import FrameStore, IOBackend
from vsr.data.stream.sampler import TrainSampler

__all__ = [
    "CharadesDataset",
    "Clip",
    "FrameStore",
    "HumanEvaDataset",
    "IOBackend",
    "REDSDataset",
    "REDSRecurrentDataset",
    "SampleKey",
    "TrainSampler",
    "VideoRecurrentTestDataset",
    "VideoTestDataset",
    "VideoTestVimeo90KDataset",
    "Vimeo90KDataset",
    "Vimeo90KRecurrentDataset",
    "generate_frame_indices",
    "imresize",
    "open_store",
]
