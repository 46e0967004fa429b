"""Data sets, frame stores, the sample stream and MATLAB's imresize."""

from vsr.data.charades import CharadesDataset
from vsr.data.humaneva import HumanEvaDataset
from vsr.data.imresize import imresize
from vsr.data.reds import REDSDataset
from vsr.data.sampler import SampleKey, TrainSampler, key_of
from vsr.data.stores import FrameStore, IOBackend, open_store
from vsr.data.video_test import Clip, VideoTestDataset, generate_frame_indices
from vsr.data.vimeo import VideoTestVimeo90KDataset, Vimeo90KDataset

__all__ = [
    "CharadesDataset",
    "Clip",
    "FrameStore",
    "HumanEvaDataset",
    "IOBackend",
    "REDSDataset",
    "SampleKey",
    "TrainSampler",
    "VideoTestDataset",
    "VideoTestVimeo90KDataset",
    "Vimeo90KDataset",
    "generate_frame_indices",
    "imresize",
    "key_of",
    "open_store",
]
