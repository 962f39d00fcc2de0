"""Where reduced precision goes wrong."""

from __future__ import annotations

import torch

from .encoder_decoder import DIVISOR


def miscomputed_in_bfloat16(images: torch.Tensor) -> bool:
    """Whether torch 2.13 gets the gradients of a network on [B, C, *spatial] wrong on a CPU in bfloat16.

    It reads memory that nobody wrote in the weights' gradient of a 3D convolution whose input has two voxels along its
    first axis; sizes up to 32 come down to two on their way through the network.
    """
    return images.device.type == "cpu" and images.dim() == 5 and images.shape[2] <= 2 * DIVISOR
