"""Encoders, decoders and networks for 2D slices and 3D patches."""

from .dca import DCANet
from .ema import moving_average
from .encoder_decoder import Decoder, Encoder, SegmentationNet
from .stitching import stitch

__all__ = ["DCANet", "Decoder", "Encoder", "SegmentationNet", "moving_average", "stitch"]
