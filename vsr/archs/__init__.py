"""Networks, one file per paper."""

from vsr.archs.edvr import EDVR
from vsr.archs.edvr_memory import EDVRMemory
from vsr.archs.frame_predictor import FramePredictor
from vsr.archs.recurrent.basicvsr import BasicVSR
from vsr.archs.recurrent.basicvsr_pp import BasicVSRPlusPlus
from vsr.archs.recurrent.iconvsr import IconVSR
from vsr.archs.recurrent.memory_basicvsr import MemoryBasicVSR
from vsr.archs.recurrent.realbasicvsr import RealBasicVSRNet
from vsr.archs.recurrent.spynet import SpyNet
from vsr.archs.resnet import ResNetDecoder, ResNetEncoder
from vsr.archs.unet import UNetDecoder, UNetEncoder

__all__ = [
    "EDVR",
    "BasicVSR",
    "BasicVSRPlusPlus",
    "EDVRMemory",
    "FramePredictor",
    "IconVSR",
    "MemoryBasicVSR",
    "RealBasicVSRNet",
    "ResNetDecoder",
    "ResNetEncoder",
    "SpyNet",
    "UNetDecoder",
    "UNetEncoder",
]
