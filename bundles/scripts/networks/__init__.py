"""Encoders, decoders and networks for 2D slices and 3D patches."""

from .critic import VoxelCritic
from .dca import DCANet
from .deep_supervision import DeepSupervisionNet
from .ema import moving_average
from .encoder_decoder import Decoder, Encoder, SegmentationNet
from .stitching import stitch
from .twin import TwinNet

__all__ = [
    "DCANet",
    "Decoder",
    "DeepSupervisionNet",
    "Encoder",
    "SegmentationNet",
    "TwinNet",
    "VoxelCritic",
    "moving_average",
    "stitch",
]
