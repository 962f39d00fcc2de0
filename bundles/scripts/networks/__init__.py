"""Encoders, decoders and networks for 2D slices and 3D patches."""

from .channel_attention import AttentionNet
from .checkpointing import recompute_finest_levels
from .class_codes import ClassCodeNet
from .critic import VoxelCritic
from .dca import DCANet
from .deep_supervision import DeepSupervisionNet
from .diffusion import LabelDiffusion
from .ema import MovingAverage, move_towards
from .encoder_decoder import Decoder, Encoder, SegmentationNet
from .location import LocationHead
from .mirroring import mean_over_mirror_images
from .normalisation import frozen_statistics
from .precision import autocast_dtype, miscomputed_in_bfloat16
from .stitching import stitch
from .twin import TwinNet

__all__ = [
    "AttentionNet",
    "ClassCodeNet",
    "DCANet",
    "Decoder",
    "DeepSupervisionNet",
    "Encoder",
    "LabelDiffusion",
    "LocationHead",
    "MovingAverage",
    "SegmentationNet",
    "TwinNet",
    "VoxelCritic",
    "autocast_dtype",
    "frozen_statistics",
    "mean_over_mirror_images",
    "miscomputed_in_bfloat16",
    "move_towards",
    "recompute_finest_levels",
    "stitch",
]
