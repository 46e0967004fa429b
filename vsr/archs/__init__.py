"""Networks, one file per paper."""

from vsr.archs.edvr import EDVR
from vsr.archs.edvr_memory import EDVRMemory
from vsr.archs.frame_predictor import FramePredictor
from vsr.archs.resnet import ResNetDecoder, ResNetEncoder
from vsr.archs.unet import UNetDecoder, UNetEncoder

__all__ = ["EDVR", "EDVRMemory", "FramePredictor", "ResNetDecoder", "ResNetEncoder", "UNetDecoder", "UNetEncoder"]
